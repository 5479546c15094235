// Package registry is one pooled, authenticated, retrying client for container registries,
// shared by everything that talks to them: the pull of bases, the cache, and the push.
package registry
