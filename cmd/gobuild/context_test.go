package main

import "testing"

// TestKanikoCredentials are for the host of the context, and for nothing else.
func TestKanikoCredentials(t *testing.T) {
	t.Setenv("GIT_USERNAME", "u")
	t.Setenv("GIT_PASSWORD", "p")
	for _, tt := range []struct{ token, context, name, want string }{
		{"", "git://host:1/x", "GIT_AUTH_HEADER.host:1", "Basic dTpw"},
		{"t", "https://host/x.git#main", "GIT_AUTH_HEADER.host", "Basic dDo="},
		{"t", "github.com/x/y", "GIT_AUTH_HEADER.github.com", "Basic dDo="},
		{"t", "https://host/x.git", "GIT_AUTH_HEADER", ""},
		{"t", "https://host/x.git", "GIT_AUTH_HEADER.other", ""},
		{"t", "https://host/x.git", "HTTP_AUTH_HEADER_host", ""},
		{"t", "https://host/x.tar", "GIT_AUTH_HEADER.host", ""},
		{"t", ".", "GIT_AUTH_HEADER.", ""},
	} {
		t.Setenv("GIT_TOKEN", tt.token)
		got := ""
		if s := contextCredentials(tt.context); s != nil {
			if b, ok, err := s(t.Context(), tt.name); err != nil {
				t.Error(err)
			} else if ok {
				got = string(b)
			}
		}
		if got != tt.want {
			t.Errorf("%s of %s: %q, want %q", tt.name, tt.context, got, tt.want)
		}
	}
}
