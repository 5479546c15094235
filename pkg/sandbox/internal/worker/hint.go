package worker

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/unfit"
)

// Hint explains an error of starting a process where it is this machine's settings that forbid it, and says what
// would help. It returns nil when it does not know.
func Hint(w *Worker, err error) *unfit.Error {
	if !w.Namespaced() {
		if errors.Is(err, unix.EPERM) {
			return &unfit.Error{Why: "this process may not mount", Remedy: "give the container CAP_SYS_ADMIN, and a seccomp and AppArmor profile that allow mount"}
		}
		return nil
	}
	denied := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
	switch {
	case !denied && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL):
		return nil
	case setting("/proc/sys/user/max_user_namespaces") == "0":
		return &unfit.Error{Why: "user namespaces are disabled", Remedy: "set sysctl user.max_user_namespaces=28633"}
	case setting("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		return &unfit.Error{Why: "user namespaces are disabled for ordinary users", Remedy: "set sysctl kernel.unprivileged_userns_clone=1"}
	case setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		return &unfit.Error{Why: "AppArmor restricts user namespaces", Remedy: "set sysctl kernel.apparmor_restrict_unprivileged_userns=0, or give gobuild a profile with \"userns\""}
	case denied && strings.Contains(err.Error(), "start child"):
		return &unfit.Error{Why: "user namespaces are not permitted here", Remedy: "run the container with a seccomp profile that allows clone with CLONE_NEWUSER"}
	case denied:
		return &unfit.Error{Why: "mounts are not permitted in user namespaces here", Remedy: "run the container with a seccomp and AppArmor profile that allow mount"}
	}
	return nil
}

// setting reads a setting of the kernel, "" when there is none of that name.
func setting(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
