package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The templates in deploy are read strictly: a field that these types, which are the part of their systems' languages that they use, do
// not have is an error. Kubernetes' own rules judge the pods, GitLab's schema the component, and actionlint the action, too. Then their jobs are run in containers that have what the systems would give them.

type (
	job struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name string }
		Spec       struct {
			BackoffLimit            int `yaml:"backoffLimit"`
			TTLSecondsAfterFinished int `yaml:"ttlSecondsAfterFinished"`
			Template                struct{ Spec podSpec }
		}
	}
	pod struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Spec       podSpec
	}
	podSpec struct {
		RestartPolicy                string          `yaml:"restartPolicy"`
		AutomountServiceAccountToken *bool           `yaml:"automountServiceAccountToken"`
		SecurityContext              securityContext `yaml:"securityContext"`
		Containers                   []podContainer
		Volumes                      []podVolume
	}
	podContainer struct {
		Name, Image     string
		Command, Args   []string
		WorkingDir      string          `yaml:"workingDir"`
		SecurityContext securityContext `yaml:"securityContext"`
		Resources       struct{ Requests, Limits map[string]string }
		VolumeMounts    []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	podVolume struct {
		Name     string
		EmptyDir *struct{} `yaml:"emptyDir"`
		Secret   *struct {
			SecretName string `yaml:"secretName"`
			Items      []struct{ Key, Path string }
		}
	}
	securityContext struct {
		RunAsNonRoot             *bool                 `yaml:"runAsNonRoot"`
		RunAsUser                *int                  `yaml:"runAsUser"`
		RunAsGroup               *int                  `yaml:"runAsGroup"`
		FSGroup                  *int                  `yaml:"fsGroup"`
		SeccompProfile           struct{ Type string } `yaml:"seccompProfile"`
		AllowPrivilegeEscalation *bool                 `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   *bool                 `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop []string }
	}
	task struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name string }
		Spec       struct {
			Description string
			Params      []struct {
				Name, Description, Type string
				Default                 any
			}
			Workspaces []struct {
				Name, Description string
				Optional          bool
				MountPath         string `yaml:"mountPath"`
			}
			Results []struct{ Name, Description string }
			Steps   []podContainer
		}
	}
	gitlabJob struct {
		Stage string
		Image struct {
			Name       string
			Entrypoint []string
		}
		Script    []string
		Artifacts struct {
			Reports struct{ Dotenv string }
		}
	}
	action struct {
		Name, Description string
		Inputs            map[string]struct {
			Description, Default string
			Required             bool
		}
		Outputs map[string]struct{ Description, Value string }
		Runs    struct {
			Using string
			Steps []struct {
				ID, Shell, Run string
				Env            map[string]string
			}
		}
	}
)

// decode reads the documents of a text, each into one of the values, without anything that they do not have.
func decode(t *testing.T, text string, into ...any) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	for _, v := range into {
		if err := d.Decode(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		t.Errorf("there is more: %v", err)
	}
}

func template(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository(), "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// place is what a job is given: a registry that wants a password, and a context.
type place struct {
	addr, config string
	context      string
	archive      string // URL of the context
}

func newPlace(t *testing.T, steps string) place {
	t.Helper()
	p := place{context: workspace(t, "FROM "+busybox(t)+"\nARG WORD\nCOPY Dockerfile /copied\n"+steps)}
	p.addr, p.config = locked(t)
	text, err := os.ReadFile(filepath.Join(p.context, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(text)
	if err := errors.Join(err, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(b.Bytes()) }))
	t.Cleanup(s.Close)
	p.archive = s.URL + "/main.tar.gz"
	return p
}

// fill replaces the addresses of a template that are examples.
func (p place) fill(text string, image string) string {
	return strings.NewReplacer("registry.example.com/gobuild:1-debug", image, "registry.example.com/gobuild:1", image,
		"https://git.example.com/team/app/archive/main.tar.gz", p.archive, "registry.example.com", p.addr).Replace(text)
}

// built checks the image that a job has pushed.
func (p place) built(t *testing.T, name string, ran bool) (digest string) {
	t.Helper()
	img, err := pullAs(t, p.addr+"/"+name, "alice", "secret")
	if err != nil {
		t.Fatal(err)
	}
	got := files(t, img)
	if got["copied"] == "" || (got["made"] != "") != ran {
		t.Errorf("files: %v", slices.Collect(maps.Keys(got)))
	}
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

const makes = "RUN echo \"made $WORD\" > /made\n"

// options are docker run's for what a pod says of a container.
func (s podSpec) options(t *testing.T, p place, c podContainer) []string {
	t.Helper()
	var o []string
	set := func(words ...string) { o = append(o, words...) }
	user, group := s.SecurityContext.RunAsUser, s.SecurityContext.RunAsGroup
	if c.SecurityContext.RunAsUser != nil {
		user = c.SecurityContext.RunAsUser
	}
	if user != nil && group != nil {
		set("--user", fmt.Sprintf("%d:%d", *user, *group))
	} else if user != nil {
		set("--user", fmt.Sprint(*user))
	}
	for _, name := range c.SecurityContext.Capabilities.Drop {
		set("--cap-drop", name)
	}
	if e := c.SecurityContext.AllowPrivilegeEscalation; e != nil && !*e {
		set("--security-opt", "no-new-privileges")
	}
	if r := c.SecurityContext.ReadOnlyRootFilesystem; r != nil && *r {
		set("--read-only")
	}
	if m := c.Resources.Limits["memory"]; m != "" {
		set("--memory", strings.TrimSuffix(m, "i"))
	}
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(s.Volumes, func(v podVolume) bool { return v.Name == m.Name })
		if i < 0 {
			t.Fatalf("no volume %s", m.Name)
		}
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if secret := s.Volumes[i].Secret; secret != nil {
			if secret.Items[0].Key != ".dockerconfigjson" {
				t.Errorf("a secret of that type has no key %s", secret.Items[0].Key)
			}
			put(t, filepath.Join(dir, secret.Items[0].Path), p.config)
		}
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		set("--volume", dir+":"+m.MountPath+":"+mode)
	}
	return o
}

func TestKubernetesJobs(t *testing.T) {
	image := official(t).plain
	for _, tc := range []struct {
		file, level, steps string
	}{{"kubernetes-job.yaml", "baseline", makes}, {"kubernetes-job-restricted.yaml", "restricted", ""}} {
		t.Run(tc.file, func(t *testing.T) {
			p := newPlace(t, tc.steps)
			var j job
			decode(t, p.fill(template(t, tc.file), image), &j)
			if j.APIVersion != "batch/v1" || j.Kind != "Job" || j.Metadata.Name == "" || j.Spec.Template.Spec.RestartPolicy != "Never" {
				t.Errorf("this is no job: %+v", j)
			}
			spec := j.Spec.Template.Spec
			c := spec.Containers[0]
			admitted(t, tc.level, template(t, tc.file))
			mustRunImage(t, c.Image, spec.options(t, p, c), c.Args)
			p.built(t, "team/app:1", tc.steps != "")
		})
	}
}

// admitted has Kubernetes' own types read a manifest, and its own rules judge the pod by a Pod Security Standard.
func admitted(t *testing.T, level, manifest string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(toolsDir(), "podcheck"), level)
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", level, err, out)
	}
}

func TestTektonTask(t *testing.T) {
	p, image := newPlace(t, makes), official(t).plain
	var k task
	decode(t, template(t, "tekton-task.yaml"), &k)
	if k.APIVersion != "tekton.dev/v1" || k.Kind != "Task" || len(k.Spec.Steps) != 1 {
		t.Fatalf("this is no task: %+v", k)
	}
	results, config := t.TempDir(), t.TempDir()
	put(t, filepath.Join(config, "config.json"), p.config)
	values := map[string]string{
		"params.IMAGE": p.addr + "/tekton/app:1", "params.BUILDER_IMAGE": image, "workspaces.source.path": "/workspace/source",
	}
	for _, param := range k.Spec.Params {
		if word, ok := param.Default.(string); ok {
			values["params."+param.Name] = word
		}
	}
	for _, r := range k.Spec.Results {
		values["results."+r.Name+".path"] = "/tekton/results/" + r.Name
	}
	step := k.Spec.Steps[0]
	var args []string
	for _, a := range step.Args {
		if a == "$(params.EXTRA_ARGS[*])" {
			args = append(args, "--build-arg", "WORD=x")
			continue
		}
		args = append(args, substitute(t, `\$\(([^)]+)\)`, a, values))
	}
	options := podSpec{}.options(t, p, step)
	i := slices.IndexFunc(k.Spec.Workspaces, func(w struct {
		Name, Description string
		Optional          bool
		MountPath         string `yaml:"mountPath"`
	}) bool {
		return w.Name == "dockerconfig"
	})
	options = append(options, "--volume", p.context+":/workspace/source", "--volume", results+":/tekton/results",
		"--volume", config+":"+k.Spec.Workspaces[i].MountPath, "--workdir", substitute(t, `\$\(([^)]+)\)`, step.WorkingDir, values))
	mustRunImage(t, substitute(t, `\$\(([^)]+)\)`, step.Image, values), options, args)
	digest := p.built(t, "tekton/app:1", true)
	if got := get(t, filepath.Join(results, "IMAGE_DIGEST")); got != digest {
		t.Errorf("the result is %q, want %q", got, digest)
	}
	if got := get(t, filepath.Join(results, "IMAGE_URL")); strings.TrimSpace(got) != p.addr+"/tekton/app:1@"+digest {
		t.Errorf("the result is %q", got)
	}
}

// substitute replaces what matches by the value of its first group, which there has to be.
func substitute(t *testing.T, pattern, text string, values map[string]string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	return re.ReplaceAllStringFunc(text, func(m string) string {
		name := strings.TrimSpace(re.FindStringSubmatch(m)[1])
		value, ok := values[name]
		if !ok {
			t.Errorf("%s has no value", name)
		}
		return value
	})
}

func get(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// included lets gitlab-ci-local include a component as GitLab does, hold the result against GitLab's schema, and print it.
func included(t *testing.T, name string, inputs map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	var lines strings.Builder
	lines.WriteString("include:\n  - local: component.yml\n    inputs:\n")
	for key, value := range inputs {
		fmt.Fprintf(&lines, "      %s: %q\n", key, value)
	}
	put(t, filepath.Join(dir, "component.yml"), template(t, name))
	put(t, filepath.Join(dir, ".gitlab-ci.yml"), lines.String())
	for _, words := range [][]string{
		{"init", "--quiet", "--initial-branch", "main"}, {"remote", "add", "origin", "git@gitlab.invalid:team/app.git"},
		{"add", "--all"}, {"-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message", "all"},
	} {
		if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, words...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", words[0], err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(repository(), ".tools", "gitlab-ci-local", "node_modules", ".bin", "gitlab-ci-local"), "--preview")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil || !strings.Contains(said.String()+string(out), "json schema validated") {
		t.Fatalf("%v\n%s%s", err, said.String(), out)
	}
	_, document, _ := strings.Cut(string(out), "---\n")
	return document
}

// TestGitLabComponent includes the component as GitLab does, and runs its job as the runner does.
func TestGitLabComponent(t *testing.T) {
	p, image := newPlace(t, makes), official(t).debug
	expanded := included(t, "gitlab-ci.yml", map[string]string{"image": image, "flags": "--build-arg WORD=x"})
	jobs := struct {
		Stages []string
		Job    gitlabJob `yaml:"build-image"`
	}{}
	decode(t, expanded, &jobs)
	j := jobs.Job
	if j.Stage != "build" || j.Image.Name != image || !slices.Equal(j.Image.Entrypoint, []string{""}) {
		t.Fatalf("the job is %+v", jobs)
	}
	options := []string{"--entrypoint", "", "--volume", p.context + ":/builds/team/app", "--workdir", "/builds/team/app"}
	for name, value := range map[string]string{
		"CI": "true", "CI_PROJECT_DIR": "/builds/team/app", "CI_REGISTRY": p.addr, "CI_REGISTRY_USER": "alice", "CI_REGISTRY_PASSWORD": "secret",
		"CI_REGISTRY_IMAGE": p.addr + "/team/app", "CI_COMMIT_REF_SLUG": "main",
	} {
		options = append(options, "--env", name+"="+value)
	}
	script := "set -e\n" + strings.Join(j.Script, "\n")
	out := mustRunImage(t, j.Image.Name, options, []string{"sh", "-c", script})
	digest := p.built(t, "team/app:main", true)
	if got := get(t, filepath.Join(p.context, j.Artifacts.Reports.Dotenv)); got != "GOBUILD_DIGEST="+digest+"\n" {
		t.Errorf("the report is %q, want %q", got, digest)
	}
	if strings.Contains(out, "secret") {
		t.Errorf("it tells the password:\n%s", out)
	}
	// Another job finds the results of the first.
	if out := mustRunImage(t, j.Image.Name, options, []string{"sh", "-c", script}); !strings.Contains(out, "CACHED") {
		t.Errorf("nothing was cached:\n%s", out)
	}
}

// used has actionlint read an action and a workflow that uses it.
func used(t *testing.T, name string) {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "build", "action.yml"), template(t, name))
	put(t, filepath.Join(dir, ".github", "workflows", "w.yml"), `on: push
jobs:
  image:
    runs-on: ubuntu-latest
    permissions: { contents: read, packages: write }
    steps:
      - uses: ./build
        id: build
        with: { image: registry.example.com/gobuild:1, destinations: ghcr.io/me/x:1, build-args: A=1, cache: ghcr.io/me/cache }
      - run: echo "${{ steps.build.outputs.digest }}"
`)
	if out, err := exec.CommandContext(t.Context(), "git", "-C", dir, "init", "--quiet").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(toolsDir(), "actionlint"), "-no-color", "-shellcheck=", "-pyflakes=")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestGitHubAction runs the steps of the action with what a runner gives them.
func TestGitHubAction(t *testing.T) {
	p, i := newPlace(t, makes), official(t)
	var a action
	decode(t, template(t, "github-action/action.yml"), &a)
	if a.Runs.Using != "composite" || len(a.Runs.Steps) != 1 || a.Name == "" || a.Description == "" {
		t.Fatalf("this is no composite action: %+v", a)
	}
	values := map[string]string{"github.token": "token"}
	for name, in := range a.Inputs {
		if in.Required == (in.Default != "") && in.Required {
			t.Errorf("input %s is required and has a default", name)
		}
		values["inputs."+name] = substitute(t, `\$\{\{([^}]+)\}\}`, in.Default, values)
	}
	values["inputs.image"] = i.plain
	values["inputs.destinations"] = p.addr + "/hub/app:1\n" + p.addr + "/hub/app:2\n"
	values["inputs.build-args"] = "WORD=two words\n"
	values["inputs.cache"] = p.addr + "/hub/cache"
	values["inputs.flags"] = "--label\nby=test\n"
	values["inputs.docker-flags"] = "--network\nhost\n"
	used(t, "github-action/action.yml")
	step := a.Runs.Steps[0]
	home, temp := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".docker"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(home, ".docker", "config.json"), p.config)
	output := filepath.Join(temp, "output")
	cmd := exec.CommandContext(t.Context(), step.Shell, "-e", "-o", "pipefail", "-c", step.Run)
	cmd.Env = append(os.Environ(), "HOME="+home, "DOCKER_CONFIG=", "DOCKER_HOST="+docker(t).Host(), "GITHUB_WORKSPACE="+p.context, "RUNNER_TEMP="+temp,
		"GITHUB_OUTPUT="+output, "GITHUB_ACTOR=me", "GITHUB_SERVER_URL=https://github.com")
	for name, value := range step.Env {
		cmd.Env = append(cmd.Env, name+"="+substitute(t, `\$\{\{([^}]+)\}\}`, value, values))
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	digest := p.built(t, "hub/app:1", true)
	p.built(t, "hub/app:2", true)
	if got := get(t, output); got != "digest="+digest+"\n" {
		t.Errorf("the output is %q, want %q", got, digest)
	}
	if a.Outputs["digest"].Value != "${{ steps."+step.ID+".outputs.digest }}" {
		t.Errorf("output %+v of step %s", a.Outputs["digest"], step.ID)
	}
}

// TestJenkinsPipeline runs the shell step of the pipeline in its pod's container.
func TestJenkinsPipeline(t *testing.T) {
	p, image := newPlace(t, makes), official(t).debug
	text := p.fill(template(t, "jenkinsfile"), image)
	quoted := regexp.MustCompile(`(?s)(yaml|sh) '''\n(.*?)'''`).FindAllStringSubmatch(text, -1)
	if len(quoted) != 2 || strings.Count(text, "{") != strings.Count(text, "}") {
		t.Fatalf("it has other parts: %q", quoted)
	}
	var d pod
	decode(t, quoted[0][2], &d)
	admitted(t, "baseline", quoted[0][2])
	c := d.Spec.Containers[0]
	if !strings.Contains(text, "container('"+c.Name+"')") {
		t.Errorf("no step runs in the container %s", c.Name)
	}
	env := regexp.MustCompile(`(?m)^    ([A-Z]+) = '([^']*)'$`).FindAllStringSubmatch(text, -1)
	options := append(d.Spec.options(t, p, c), "--detach", "--entrypoint", c.Command[0], "--volume", p.context+":/home/jenkins/agent/workspace/app")
	id := strings.TrimSpace(mustRunImage(t, c.Image, options, c.Args))
	t.Cleanup(func() {
		if out, err := docker(t).Command(context.Background(), "rm", "--force", id).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	words := []string{"exec", "--workdir", "/home/jenkins/agent/workspace/app", "--env", "WORKSPACE=/home/jenkins/agent/workspace/app", "--env", "BUILD_NUMBER=7"}
	for _, e := range env {
		words = append(words, "--env", e[1]+"="+e[2])
	}
	if _, err := docker(t).Output(t.Context(), append(words, id, "sh", "-xe", "-c", quoted[1][2])...); err != nil {
		t.Fatal(err)
	}
	if got := get(t, filepath.Join(p.context, "digest")); got != p.built(t, "team/app:7", true) {
		t.Errorf("digest %q", got)
	}
}
