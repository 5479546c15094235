package cache_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

func TestParsePlace(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		use  cache.Use
		want cache.Place
	}{
		"lone-word-is-a-registry": {"host/name:tag", cache.From, cache.Place{
			Type: cache.PlaceRegistry, Values: map[string]string{"ref": "host/name:tag"},
		}},
		"registry-as-in-buildkits-docs": {"type=registry,ref=host/name,mode=max,image-manifest=true", cache.To, cache.Place{
			Type: cache.PlaceRegistry, Values: map[string]string{"ref": "host/name"}, Ignored: []string{"image-manifest", "mode"},
		}},
		"quoted-comma": {`type=local,"dest=a,b"`, cache.To, cache.Place{
			Type: cache.PlaceLocal, Values: map[string]string{"dest": "a,b"},
		}},
		"value-with-equals-sign": {"type=azblob,account_url=u,secret_access_key=a==", cache.From, cache.Place{
			Type: cache.PlaceAzure, Values: map[string]string{"account_url": "u", "secret_access_key": "a=="},
		}},
		"switch-spelled-as-go-does": {"type=s3,bucket=b,use_path_style=1", cache.From, cache.Place{
			Type: cache.PlaceS3, Values: map[string]string{"bucket": "b", "use_path_style": "true"},
		}},
		"inline": {"type=inline", cache.To, cache.Place{Type: cache.PlaceInline, Values: map[string]string{}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := cache.ParsePlace(tc.in, tc.use)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParsePlaceErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		use  cache.Use
		want string
	}{
		"empty":               {"", cache.From, "write key=value pairs"},
		"no-type":             {"ref=host/name", cache.From, "the type is missing"},
		"misspelled-type":     {"type=registryy,ref=x", cache.From, `did you mean "registry"?`},
		"misspelled-option":   {"type=s3,bukcet=x", cache.From, `did you mean "bucket"?`},
		"src-of-cache-to":     {"type=local,src=x", cache.To, `unknown option of type=local "src"`},
		"needed-option":       {"type=gcs,prefix=x", cache.From, "type=gcs needs bucket="},
		"empty-needed-option": {"type=registry,ref=", cache.From, "type=registry needs ref="},
		"inline-is-not-read":  {"type=inline", cache.From, `unknown type "inline"`},
		"switch":              {"type=s3,bucket=b,use_path_style=yes", cache.From, "true or false"},
		"twice":               {"type=s3,bucket=a,bucket=b", cache.From, `"bucket" is there twice`},
		"open-quote":          {`type=local,"src=x`, cache.From, "write key=value pairs"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cache.ParsePlace(tc.in, tc.use)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want it to have %q", err, tc.want)
			}
		})
	}
}

func TestParsePlaceKeepsSecretsOutOfErrors(t *testing.T) {
	_, err := cache.ParsePlace("type=s3,secret_access_key=hunter2", cache.From)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v", err)
	}
}
