package fileop_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUnpackReplaces holds trap 23 for archives: what is below a replaced directory is gone.
func TestUnpackReplaces(t *testing.T) {
	base := specTree(t, "d 0700 1:1 own\nf 0644 0:0 own/hidden x\nd 0755 0:0 own/sub\nf 0644 0:0 own/sub/hidden x\nf 0644 0:0 f x")
	dir := t.TempDir()
	for name, spec := range map[string]string{
		"again.tar":  "f 0644 0:0 own/new\nf 0644 0:0 own\nd 0750 2:2 own\nf 0644 0:0 own/x",
		"twice.tar":  "f 0644 0:0 own\nd 0755 0:0 own\nf 0600 0:0 own\nd 0711 0:0 own",
		"file.tar":   "d 0755 0:0 f\nf 0644 0:0 f\nd 0700 0:0 f",
		"merge.tar":  "d 0755 3:3 own\nd 0711 4:4 own/sub",
		"behind.tar": "l 0777 0:0 l nowhere\nf 0644 0:0 l/x",
		"links.tar":  "f 0644 0:0 b 1\nh 0600 5:5 a b\nh 0640 6:6 own/c a\nl 0777 0:0 s b\nh 0777 0:0 t s",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), tarOf(t, spec), 0o600))
	}
	for name, want := range map[string]string{
		"again.tar": "opaque d 0750 2:2 0 own\nf 0644 0:0 0 own/x\n",
		"twice.tar": "opaque d 0711 0:0 0 own\n",
		"file.tar":  "d 0700 0:0 0 f\n",
		"merge.tar": "d 0755 3:3 0 own\nd 0711 4:4 0 own/sub\n",
		// BuildKit fails here, as the link leads nowhere.
		"behind.tar": "l 0777 0:0 0 l -> nowhere\nd 0755 0:0 0 nowhere\nf 0644 0:0 0 nowhere/x\n",
		"links.tar": "f 0640 6:6 1 a\nh 0640 6:6 0 b -> a\nd 0700 1:1 0 own\nh 0640 6:6 0 own/c -> a\n" +
			"l 0777 0:0 0 s -> b\nh 0777 0:0 0 t -> s\n",
	} {
		got, err := run(t, instruction(t, "ADD "+name+" /", diskTree(t, dir)), base)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// TestUnpackStaysInside holds trap 80: an archive unpacked into a directory knows nothing above it.
func TestUnpackStaysInside(t *testing.T) {
	base := specTree(t, "d 0755 0:0 etc\nf 0644 0:0 etc/passwd x\nd 0755 0:0 in\nl 0777 0:0 in/abs /etc\nl 0777 0:0 in/up ../../etc")
	dir := t.TempDir()
	for name, spec := range map[string]string{
		"dots":  "f 0644 0:0 ../../etc/passwd\nf 0644 0:0 /etc/../../../y",
		"links": "l 0777 0:0 l ../../../etc\nf 0644 0:0 l/passwd\nf 0644 0:0 abs/x\nf 0644 0:0 up/y\nl 0777 0:0 m /\nf 0644 0:0 m/z",
		"hard":  "h 0600 9:9 h ../etc/passwd",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), tarOf(t, spec), 0o600))
		for _, dest := range []string{"/in", "/in/"} {
			got, err := run(t, instruction(t, "ADD "+name+" "+dest, diskTree(t, dir)), base)
			if (err != nil) != (name == "hard") {
				t.Errorf("%s: %v", name, err)
			}
			for l := range strings.Lines(got) {
				if file := strings.Fields(l)[4]; file != "in" && !strings.HasPrefix(file, "in/") {
					t.Errorf("%s: %s", name, l)
				}
			}
		}
	}
}

// TestBrokenArchive: once the first entry has been read, what is wrong with the rest is an error and not half a copy.
func TestBrokenArchive(t *testing.T) {
	dir := t.TempDir()
	whole := tarOf(t, "f 0644 0:0 a "+strings.Repeat("x", 3000)+"\nf 0644 0:0 b 2")
	gz := compress(t, "gz", whole)
	for name, b := range map[string][]byte{
		"short.tar": whole[:2000],
		"bad.tar":   append(bytes.Clone(whole[:3584]), bytes.Repeat([]byte("?"), 512)...),
		"short.tgz": gz[:len(gz)/2],
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		_, err := run(t, instruction(t, "ADD "+name+" /", diskTree(t, dir)), nil)
		if name != "short.tgz" && (err == nil || !strings.HasPrefix(err.Error(), `unpack "`+name+`": `)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSpool unpacks more than would fit into memory budgets, out of order, and leaves nothing behind.
func TestSpool(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	big := strings.Repeat("0123456789abcdef", 1<<16)
	must(t, os.WriteFile(filepath.Join(dir, "a.tgz"), compress(t, "gz", tarOf(t, "f 0644 0:0 z "+big+"\nf 0644 0:0 a "+big[1:])), 0o600))
	c := instruction(t, "ADD a.tgz /", diskTree(t, dir))
	c.TempDir = temp
	s, err := c.Select(t.Context())
	must(t, err)
	_, bodies := collect(t, s.Changes(t.Context(), nil))
	if bodies["z"] != big || bodies["a"] != big[1:] {
		t.Error("other contents")
	}
	must(t, s.Close())
	must(t, s.Close())
	left, err := os.ReadDir(temp)
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestXattrs holds trap 8: file capabilities are kept through COPY --from, whatever happens to
// owner and mode, and what belongs to this machine is not.
func TestXattrs(t *testing.T) {
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	records := map[string]string{
		"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.x": "1", "SCHILY.xattr.user.overlay.opaque": "y",
		"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.selinux": "label", "comment": "no",
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o755, PAXRecords: records, Format: tar.FormatPAX}))
	must(t, w.Close())
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a.tar"), b.Bytes(), 0o600))
	want := map[string]string{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.x": "1"}
	image := layers(t, instruction(t, "ADD a.tar /", diskTree(t, dir)))
	headers, _ := collect(t, selectFiles(t, instruction(t, "COPY --from=image --chown=1 --chmod=700 f /g", image)).Changes(t.Context(), nil))
	if diff := cmp.Diff(want, headers["g"].Header.PAXRecords); diff != "" {
		t.Error(diff)
	}
}
