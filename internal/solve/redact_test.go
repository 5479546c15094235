package solve

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestRedactorFindsSecretsAcrossWrites holds that no cut lets a secret through, and that nothing else is lost.
func TestRedactorFindsSecretsAcrossWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few letters, so that text is full of beginnings of secrets.
		letters := rapid.StringMatching(`[ab]{0,40}`)
		secrets := [][]byte{[]byte("abaabab"), []byte("bbabba\n")}
		text := letters.Draw(t, "before") + "abaabab" + letters.Draw(t, "between") + "bbabba" + letters.Draw(t, "after")
		want := text
		for _, s := range secrets {
			want = strings.ReplaceAll(want, string(bytes.TrimSpace(s)), redacted)
		}
		var out bytes.Buffer
		w := newRedactor(&out, secrets)
		for rest := []byte(text); len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		w.(*redactor).flush()
		for _, s := range secrets {
			if bytes.Contains(out.Bytes(), bytes.TrimSpace(s)) {
				t.Fatalf("%q holds %q", out.String(), s)
			}
		}
		// Where secrets overlap, what is left of them depends on the cut.
		if got := out.String(); got != want && !overlapping(text) {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

func overlapping(text string) bool {
	marks := make([]int, len(text))
	for _, s := range []string{"abaabab", "bbabba"} {
		for i := range text {
			if strings.HasPrefix(text[i:], s) {
				for j := range s {
					marks[i+j]++
				}
			}
		}
	}
	for _, n := range marks {
		if n > 1 {
			return true
		}
	}
	return false
}

func TestNothingToRedact(t *testing.T) {
	var out bytes.Buffer
	if w := newRedactor(&out, [][]byte{[]byte("short"), nil}); w != &out {
		t.Error("short secrets are looked for")
	}
}
