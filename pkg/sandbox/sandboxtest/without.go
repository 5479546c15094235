package sandboxtest

// WithoutMounts lists the tests that a driver cannot pass which has neither mounts nor namespaces, with the reasons. Those of
// testBare are in their place.
func WithoutMounts() map[string]string {
	const (
		copies    = "mounts are copies, or what was moved there: nothing keeps a step from writing, and what it writes is lost"
		processes = "there is no process namespace"
		host      = "there is no namespace of names and the network"
		limits    = "what a container may open is its runtime's to say"
	)
	return map[string]string{
		"process/view/hostname":                 host,
		"process/view/hosts_is_read-only":       copies,
		"process/view/first_process":            processes,
		"process/view/only_its_own_processes":   processes,
		"process/view/sys_is_read-only":         limits,
		"process/view/proc/sys_is_read-only":    limits,
		"process/view/privileges_may_be_gained": "Landlock asks for no new privileges",
		"process/network_none":                  host,
		"process/files":                         copies,
		"process/builder_is_out_of_reach":       processes,
		"mounts/bind":                           copies,
		"mounts/bind_writable":                  copies,
		"mounts/host":                           copies,
		"mounts/tmpfs":                          copies,
		"mounts/secret":                         copies,
		"mounts/target":                         "what is mounted stays in its place",
		"mounts/bad_target":                     copies,
		"mounts/stubs":                          "mount points that were moved elsewhere are removed there, too",
		"caches/empty":                          copies,
		"caches/stubs":                          "a cache keeps no mount points",
		"privileges/insecure":                   limits,
		"privileges/devices":                    limits,
		"privileges/made-nodes":                 limits,
	}
}
