package integration

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// golden is a Dockerfile of which every byte of the image is known, but for the layers of BASE. It gives no file to
// anybody in a process, which an ordinary user may be unable to do.
const golden = `FROM BASE AS build
COPY src /src
RUN mkdir -p /out/sub && cp /src/new /out/new && ln /out/new /out/sub/hard && ln -s ../new /out/sub/soft && \
    chmod 2750 /out/sub && mkfifo /out/fifo && touch -d @1000000000 /out/old
RUN echo more >/out/sub/more && rm /src/new && mv /out/fifo /out/pipe
WORKDIR /out/work/dir

FROM scratch
COPY --from=build /out /out
COPY --link --chmod=u=rwX,go= --chown=7:8 src /linked/
ADD --chown=9 src/large large.txt /added/
COPY <<EOF /inline/file
text
EOF
WORKDIR /w
ENV A=1
LABEL b=c
ENTRYPOINT ["/out/new"]
`

// What golden comes to, on any machine and in any year. Whoever changes these changes every image that users have
// rebuilt to the same digest so far: it needs a new key version, and a word in the notes of the release.
const (
	goldenImage  = "sha256:cfed6ca732ffdeaa04ab9d26bce8a3c3df7a794e7399df2555d6f20095da703b"
	goldenLayers = `
sha256:fcc34ef1809367002280b809ed6e82d35159fab3084358628bae928987537c3a
sha256:919cd50733e83058a1f99aad6b972c2ccc37609ba744b57c72d30d9523561118
sha256:3b3a05705ce2a16803102fc18dbaa27d7fc9a7375933d6b3a9915b75ce705da4
sha256:e21be0a68802a2e88f1da86b678b2bd80ac4bde7c6a79c6aba24e9a00ba584ee
`
)

// goldenContext has files of many members of gzip, files that are younger than the epoch and files that are older.
func goldenContext(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"Dockerfile": strings.ReplaceAll(golden, "BASE", busybox(t)),
		"src/new":    "new\n", "src/old": "old\n", "large.txt": "", "src/large": strings.Repeat("some contents that compress\n", 200_000),
	}
}

// TestGoldenDigest builds with a fixed clock with each driver, as root and as an ordinary user, on one core and on more
// than there are, at different times, and from the cache.
func TestGoldenDigest(t *testing.T) {
	everywhere(t, func(t *testing.T, place func(map[string]string) *site) {
		for _, cores := range []string{"1", "8"} {
			s := place(goldenContext(t))
			s.date("src/old", "src")
			s.env = append(s.env, "GOMAXPROCS="+cores, "SOURCE_DATE_EPOCH=1600000000")
			for _, again := range []string{"", "-again"} {
				s.checkGolden(cores + again)
			}
		}
	})
}

func (s *site) checkGolden(tag string) {
	s.t.Helper()
	flags := []string{"--rewrite-timestamp", "--platform", "linux/amd64", "--destination"}
	s.mustBuild(append(flags, repo(s.t, tag))...)
	digest, err := pull(s.t.Context(), s.t, repo(s.t, tag)).Digest()
	if err != nil {
		s.t.Fatal(err)
	}
	if digest.String() != goldenImage {
		s.t.Errorf("%s: image %s, want %s", tag, digest, goldenImage)
	}
	s.mustBuild(append(flags, repo(s.t, tag+"-build"), "--target", "build")...)
	var layers []string
	for _, l := range layerDigests(s.t, pull(s.t.Context(), s.t, repo(s.t, tag+"-build")))[1:] {
		layers = append(layers, l.String())
	}
	if got := strings.Join(layers, "\n"); got != strings.TrimSpace(goldenLayers) {
		s.t.Errorf("%s: layers\n%s\nwant\n%s", tag, got, goldenLayers)
	}
}

// TestRewrittenLayersAreWhatTheySay builds on an image with rewritten times where that was built, and elsewhere: the
// files that the builder still has of it bear the times of their making.
func TestRewrittenLayersAreWhatTheySay(t *testing.T) {
	everywhere(t, func(t *testing.T, place func(map[string]string) *site) {
		here := place(map[string]string{"Dockerfile": "FROM " + busybox(t) + "\nRUN mkdir /d && echo text >/d/file\nRUN echo >/d/other\n"})
		here.env = append(here.env, "SOURCE_DATE_EPOCH=1600000000")
		here.mustBuild("--rewrite-timestamp", "--destination", repo(t, "base"))
		above := map[string]string{"Dockerfile": "FROM " + repo(t, "base") + "\nRUN chmod 600 /d/file && stat -c %Y /d/file /d/other >/times\n"}
		here.lay(above)
		elsewhere := place(above)
		for i, s := range []*site{here, elsewhere} {
			s.env = append(s.env, "SOURCE_DATE_EPOCH=1700000000")
			s.mustBuild("--rewrite-timestamp", "--destination", repo(t, fmt.Sprint(i)))
			if got := files(t, pull(t.Context(), t, repo(t, fmt.Sprint(i))))["times"]; got != "1600000000\n1600000000\n" {
				t.Errorf("times that a process sees: %q", got)
			}
		}
		if a, b := layerDigests(t, pull(t.Context(), t, repo(t, "0"))), layerDigests(t, pull(t.Context(), t, repo(t, "1"))); !slices.Equal(a, b) {
			t.Errorf("layers %v where the base was built, and %v elsewhere", a, b)
		}
	})
}

// TestReproducible holds Kaniko's flag: without a time of its own, nothing in an image is younger than 1970, and no time
// is one that clients cannot read.
func TestReproducible(t *testing.T) {
	t.Parallel()
	for epoch, want := range map[string]int64{"": 0, "1600000000": 1600000000} {
		s := newSite(t, map[string]string{"Dockerfile": "FROM scratch\nWORKDIR /d\nCOPY Dockerfile /d/\nENV A=1\n"})
		s.env = append(s.env, "SOURCE_DATE_EPOCH="+epoch)
		s.mustBuild("--reproducible", "--destination", repo(t, "a"+epoch), "--output", "type=local,dest="+filepath.Join(s.dir, "out"))
		c, err := pull(t.Context(), t, repo(t, "a"+epoch)).ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		when := time.Unix(want, 0)
		if !c.Created.Equal(when) {
			t.Errorf("created %v", c.Created)
		}
		for name, at := range times(t, filepath.Join(s.dir, "out")) {
			if !at.Equal(when) {
				t.Errorf("%s bears %v", name, at.UTC())
			}
		}
	}
}

// TestEpochOfFilesIsBuildKits exports files to directories with both builders.
func TestEpochOfFilesIsBuildKits(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"Dockerfile": "FROM " + busybox(t) + "\nWORKDIR /d\nCOPY Dockerfile old /d/\nRUN ln -s x /d/link\n", "old": ""})
	s.date("old")
	const arg = "SOURCE_DATE_EPOCH=1600000000"
	want, got := filepath.Join(s.dir, "want"), filepath.Join(s.dir, "got")
	job := parts.Job{Context: s.context, Dockerfile: "Dockerfile", BuildArgs: []string{arg}, Output: "type=local,dest=" + want}
	if err := buildkit(t).Build(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	s.mustBuild("--build-arg", arg, "--output", "type=local,dest="+got)
	a, b := times(t, want), times(t, got)
	if len(a) < 10 || !maps.EqualFunc(a, b, time.Time.Equal) {
		t.Errorf("want %v\ngot %v", a, b)
	}
}

// times are those of everything in dir.
func times(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	m := map[string]time.Time{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			m[name] = fi.ModTime()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}
