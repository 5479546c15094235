package plan

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

const (
	// secretDir is where secrets without a target are mounted.
	secretDir = "/run/secrets"
	// agentSocket is where the n-th ssh agent without a target is mounted.
	agentSocket = "/run/buildkit/ssh_agent.%d"
	// agentVariable tells programs where the agent is.
	agentVariable = "SSH_AUTH_SOCK"
	// cacheNamespaceArg is the build argument that sets caches of one name apart.
	cacheNamespaceArg = "BUILDKIT_CACHE_MOUNT_NS"
)

// runMounts returns the mounts of a RUN with all defaults filled in, parents before what is mounted in them, and where
// the first ssh agent is, if there is one.
func (k *call) runMounts(c *instructions.RunCommand) (mounts []Mount, agent string, err error) {
	agents := 0
	for i, m := range instructions.GetMounts(c) {
		var mount Mount
		switch m.Type {
		case instructions.MountTypeSecret:
			mount, err = secretMount(m)
		case instructions.MountTypeSSH:
			mount, err = agentMount(m, agents)
			agents++
		case instructions.MountTypeBind, instructions.MountTypeCache, instructions.MountTypeTmpfs:
			mount, err = k.fileMount(m, k.cmd.mountSource(i))
		default:
			err = fmt.Errorf("unsupported mount type %q", m.Type)
		}
		if err != nil {
			return nil, "", err
		}
		if mount.Target != "" && !path.IsAbs(mount.Target) {
			mount.Target = path.Join("/", k.s.dir, mount.Target)
		}
		if mount.Target != "" {
			mount.Target = path.Clean(mount.Target)
		}
		if mount.Target == "/" {
			return nil, "", fmt.Errorf("invalid mount target %q", mount.Target)
		}
		if mount.Type == MountSSH && agent == "" {
			agent = mount.Target
		}
		mounts = append(mounts, mount)
	}
	if size := k.g.opts.ShmSize; size > 0 {
		mounts = append(mounts, Mount{Type: MountTmpfs, Target: "/dev/shm", Size: size})
	}
	slices.SortStableFunc(mounts, func(a, b Mount) int { return cmp.Compare(a.Target, b.Target) })
	return mounts, agent, nil
}

// mountSource is the stage or image that the i-th mount of a RUN names; nil when it names none.
func (c command) mountSource(i int) *stage {
	if i < len(c.sources) {
		return c.sources[i]
	}
	return nil
}

// fileMount is a mount of type bind, cache or tmpfs.
func (k *call) fileMount(m *instructions.Mount, from *stage) (Mount, error) {
	mount := Mount{Type: MountType(m.Type), Target: m.Target, ReadOnly: m.ReadOnly}
	if mount.Target == "" {
		mount.Target = "."
	}
	if m.Type == instructions.MountTypeTmpfs {
		mount.Size = m.SizeLimit
		return mount, nil
	}
	mount.Source = path.Join("/", m.Source)
	if from != nil {
		step, err := k.g.source(from)
		if err != nil {
			return Mount{}, err
		}
		if step == nil {
			return Mount{}, fmt.Errorf("cannot mount from stage %q to %q, stage needs to be defined before current command", m.From, m.Target)
		}
		k.uses = append(k.uses, step)
		mount.From = step
	}
	if m.Type == instructions.MountTypeCache {
		if mount.Source == "/" && (m.UID != nil || m.GID != nil || m.Mode != nil) {
			mount.From = nil // BuildKit then mounts a new directory in what the cache begins with
		}
		mount.ID = k.g.opts.BuildArgs[cacheNamespaceArg] + "/" + cmp.Or(m.CacheID, path.Clean(m.Target))
		mount.Sharing = string(cmp.Or(m.CacheSharing, instructions.MountSharingShared))
		mount.own(m, 0o755)
	}
	return mount, nil
}

// own fills in mode and owner.
func (mount *Mount) own(m *instructions.Mount, mode int64) {
	mount.Mode = mode
	if m.Mode != nil {
		mount.Mode = int64(*m.Mode)
	}
	if m.UID != nil {
		mount.UID = int(*m.UID)
	}
	if m.GID != nil {
		mount.GID = int(*m.GID)
	}
}

func secretMount(m *instructions.Mount) (Mount, error) {
	mount := Mount{Type: MountSecret, ID: cmp.Or(m.Source, m.CacheID), Target: m.Target, Required: m.Required, ReadOnly: true}
	if mount.ID == "" {
		if m.Target == "" {
			return Mount{}, errors.New("invalid secret mount. one of source, target required")
		}
		mount.ID = path.Base(m.Target)
	}
	if m.Env != nil {
		mount.Env = cmp.Or(*m.Env, mount.ID)
	} else if mount.Target == "" {
		mount.Target = path.Join(secretDir, path.Base(mount.ID))
	}
	mount.own(m, 0o400)
	return mount, nil
}

// agentMount is the n-th mount of an ssh agent.
func agentMount(m *instructions.Mount, n int) (Mount, error) {
	if m.Source != "" {
		return Mount{}, errors.New("ssh does not support source")
	}
	mount := Mount{Type: MountSSH, ID: cmp.Or(m.CacheID, "default"), Required: m.Required}
	mount.Target = cmp.Or(m.Target, fmt.Sprintf(agentSocket, n))
	mount.own(m, 0o600)
	return mount, nil
}

// maskedSecrets is env, for names of steps, with the variables that secrets are given in: they show that there is a
// value, and not which.
func maskedSecrets(v *vars, mounts []Mount) *vars {
	masked := v
	for _, m := range mounts {
		if m.Type != MountSecret || m.Env == "" {
			continue
		}
		if masked == v {
			masked = v.clone()
		}
		masked.set(m.Env, "****")
	}
	return masked
}
