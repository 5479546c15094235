package plan

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A Dockerfile that asks for gigabytes ends in an error, soon and without having them.
func TestExponentialText(t *testing.T) {
	repeat := func(n int, line func(i int) string) string {
		var b strings.Builder
		b.WriteString("FROM a\n")
		for i := range n {
			b.WriteString(line(i) + "\n")
		}
		return b.String()
	}
	line := func(s string) func(int) string { return func(int) string { return s } }
	big := strings.Repeat("x", 60000)
	for name, text := range map[string]string{
		"env":         "FROM a\nENV a=x\n" + strings.Repeat("ENV a=$a$a\n", 60),
		"arg":         "ARG a=x\n" + strings.Repeat("ARG a=$a$a\n", 60) + "FROM a\n",
		"many-refs":   "FROM a\nENV a=" + big + "\nLABEL b=" + strings.Repeat("$a", 20000) + "\n",
		"words":       "FROM a\nENV a=" + big + "\nEXPOSE " + strings.Repeat("$a", 20000) + "\n",
		"replace":     "FROM a\nENV a=" + big + "\nENV b=${a//x/" + big[:50000] + "}\n",
		"replaces":    "FROM a\nENV a=xxxxxxxxxxxxxxxx\nENV b=" + strings.Repeat("${a//x/", 12) + "y" + strings.Repeat("}", 12) + "\n",
		"replace-doc": "FROM a\nENV a=" + big + "\nCOPY <<E /\n${a//x/'}'" + big[:50000] + "}\nE\n",
		"replace-var": "FROM a\nENV a=" + big[:20000] + "\nENV b=${a//x/$a}\n",
		"expose":      repeat(100, line("EXPOSE 1-65535/tcp 1-65535/udp")),
		"expose-line": "FROM a\nEXPOSE " + strings.Repeat("1-65535 ", 8000) + "\n",
		"run-args":    repeat(5000, func(i int) string { return fmt.Sprintf("ARG v%d=xxxxxxxxxxxxxxxxxxxxx\nRUN x", i) }),
		"run-env":     repeat(5000, func(i int) string { return fmt.Sprintf("ENV v%d=xxxxxxxxxxxxxxxxxxxxx\nRUN x", i) }),
		"labels":      repeat(9000, func(i int) string { return fmt.Sprintf("LABEL v%d=x", i) }),
		"stages":      "FROM a AS s\n" + strings.Repeat("ENV a=b\n", 5000) + strings.Repeat("FROM s AS s\n", 30000),
		"many-copies": "FROM a\n" + strings.Repeat("COPY --from=img x y\n", 50000),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := planText(t, text, Options{})
			if err == nil {
				t.Error("no error")
			}
			if d := time.Since(start); d > time.Minute {
				t.Errorf("took %v", d)
			}
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			if m.HeapSys > 512<<20 {
				t.Errorf("heap grew to %d MiB", m.HeapSys>>20)
			}
			t.Logf("%v, heap %d MiB: %v", time.Since(start).Round(time.Millisecond), m.HeapSys>>20, shortError(err))
		})
	}
	// What is large and makes sense goes through.
	for name, text := range map[string]string{
		"replace":     "FROM a\nENV a=1.2.3-" + strings.Repeat("x", 2000) + "\nENV b=${a//./-} c=https://x/${a//./_}//y\n",
		"heredoc":     "FROM a\nENV a=1.2\nCOPY <<E /\n${a//./-}\n" + strings.Repeat(big+"\n", 8) + "E\n",
		"onbuild":     "FROM a AS s0\nONBUILD ENV a=" + big + "\n" + strings.Repeat("FROM s0\n", 5000),
		"all-ports":   "FROM a\nEXPOSE 1-65535\nRUN x\nRUN y\n",
		"large-label": "FROM a\nLABEL a=" + big + " b=" + big[:1000] + "\n",
		"1000-runs":   repeat(1000, line("RUN x && "+big[:500])),
	} {
		t.Run("fine-"+name, func(t *testing.T) {
			if _, err := planText(t, text, Options{}); err != nil {
				t.Error(shortError(err))
			}
		})
	}
}

func shortError(err error) string {
	s := fmt.Sprint(err)
	return s[:min(len(s), 200)]
}
