// Podcheck reads a Job or a Pod the way a Kubernetes API server does that refuses unknown fields, and holds it against a Pod
// Security Standard. It is a module of its own because of what it depends on.
//
//	podcheck LEVEL <FILE
//
// LEVEL is privileged, baseline or restricted. What is wrong is printed, a line each, and the exit status is 1 then.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Println("usage: podcheck LEVEL <FILE")
		os.Exit(2)
	}
	problems, err := check(os.Stdin, os.Args[1])
	if err != nil {
		problems = append(problems, err.Error())
	}
	for _, p := range problems {
		fmt.Println(p)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}

// check says what keeps a document from being taken at a level.
func check(r io.Reader, level string) (problems []string, err error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	meta, spec, err := read(text)
	if err != nil {
		return nil, err
	}
	parsed, err := api.ParseLevel(level)
	if err != nil {
		return nil, err
	}
	e, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, err
	}
	for _, r := range e.EvaluatePod(api.LevelVersion{Level: parsed, Version: api.LatestVersion()}, meta, spec) {
		if !r.Allowed {
			problems = append(problems, r.ForbiddenReason+": "+r.ForbiddenDetail)
		}
	}
	return problems, nil
}

// read decodes a document by its kind.
func read(text []byte) (*metav1.ObjectMeta, *corev1.PodSpec, error) {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(text, &kind); err != nil {
		return nil, nil, err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "batch/v1 Job":
		var j batchv1.Job
		err := unmarshal(text, &j)
		return &j.Spec.Template.ObjectMeta, &j.Spec.Template.Spec, err
	case "v1 Pod":
		var p corev1.Pod
		err := unmarshal(text, &p)
		return &p.ObjectMeta, &p.Spec, err
	}
	return nil, nil, fmt.Errorf("%q of %q is neither a Job nor a Pod", kind.Kind, kind.APIVersion)
}

// unmarshal is as an API server does it: names of fields have one case, and there are no others.
func unmarshal(text []byte, into any) error {
	b, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	unknown, err := json.UnmarshalStrict(b, into)
	return errors.Join(append(unknown, err)...)
}
