package cachemount

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// formVersion is that of the form of chains. It changes when an old reader would make something else of a new chain.
const formVersion = "1"

// Identity says which cache it is.
type Identity struct {
	// ID is what RUN --mount gives, with its namespace.
	ID       string
	Platform v1.Platform
	// OneOwner says that all files belong to root since the machine has no other ids, so that others cannot use them.
	OneOwner bool
}

// on is the same cache as it is saved for another platform.
func (c Identity) on(p v1.Platform) Identity {
	c.Platform = p
	return c
}

func (c Identity) equals(other Identity) bool { return c.key(v1.Hash{}) == other.key(v1.Hash{}) }

// family stands for the cache on a machine, whichever platform it is saved for.
func (c Identity) family() cache.Key { return c.on(v1.Platform{}).key(v1.Hash{}) }

// key is that of the newest layer, or of the one that ends a chain.
func (c Identity) key(chain v1.Hash) cache.Key {
	fields := []string{"cache mount", formVersion, c.ID, c.Platform.OS, c.Platform.Architecture, c.Platform.Variant, fmt.Sprint(c.OneOwner)}
	if chain != (v1.Hash{}) {
		fields = append(fields, chain.String())
	}
	sum := sha256.New()
	for _, f := range fields {
		fmt.Fprintf(sum, "%d:%s", len(f), f)
	}
	return cache.Key(sum.Sum(nil))
}

// String names the cache for users.
func (c Identity) String() string {
	return fmt.Sprintf("cache mount %s for %s/%s", strings.TrimPrefix(c.ID, "/"), c.Platform.OS, c.Platform.Architecture)
}

// chain is the layers that a cache is made of, the lowest first. Each is an entry of its own, which names those below it, and
// the uppermost is also the entry of the cache. So what is added costs what it adds, and who adds at once to the
// same layers leaves two whole chains, of which one is the cache.
type chain struct {
	Cache cache.Key   // the family of the cache
	For   v1.Platform // for which it was found or saved last
	Links []link
}

// link is one layer of a chain.
type link struct {
	Layer   cache.LayerRecord
	Created time.Time
}

// maxChain bounds what is read of a chain that others have written.
const maxChain = 64

// find reads the chain of a cache from s, and the layers, whose bytes are not fetched.
func find(ctx context.Context, s cache.Store, c Identity) (*chain, []v1.Layer, error) {
	ch := &chain{Cache: c.family(), For: c.Platform}
	var layers []v1.Layer
	var below []v1.Hash
	key := c.key(v1.Hash{})
	for {
		e, err := s.Get(ctx, key)
		if err != nil && len(layers) > 0 && errors.Is(err, cache.ErrMiss) {
			return nil, nil, fmt.Errorf("layer %v below is gone", e.Below)
		}
		if err != nil {
			return nil, nil, err
		}
		l, err := linkOf(e)
		if err != nil {
			return nil, nil, err
		}
		ch.Links, layers, below = append(ch.Links, l), append(layers, e.Layer), append(below, e.Below)
		if e.Below == (v1.Hash{}) {
			break
		}
		if len(layers) == maxChain {
			return nil, nil, fmt.Errorf("more than %d layers", maxChain)
		}
		key = c.key(e.Below)
	}
	slices.Reverse(ch.Links)
	slices.Reverse(layers)
	slices.Reverse(below)
	for i, want := range below {
		if got := chainID(ch.Links[:i]); got != want {
			return nil, nil, fmt.Errorf("layers below have chain ID %v, not %v", got, want)
		}
	}
	return ch, layers, nil
}

func linkOf(e cache.Entry) (link, error) {
	if e.Layer == nil {
		return link{}, errors.New("an entry without a layer")
	}
	r, err := cache.NewRecord(cache.Key{}, e)
	if err != nil {
		return link{}, err
	}
	return link{*r.Layer, r.Created}, nil
}

// chainID identifies what layers are together (image-spec, config.md, "Layer ChainID"); zero for none.
func chainID(links []link) (id v1.Hash) {
	for i, l := range links {
		if i == 0 {
			id = l.Layer.DiffID
			continue
		}
		sum := sha256.Sum256([]byte(id.String() + " " + l.Layer.DiffID.String()))
		id = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
	}
	return id
}

// isIn reports whether all layers are entries of s.
func (ch *chain) isIn(ctx context.Context, s cache.Store, c Identity) (bool, error) {
	for i := range ch.Links {
		_, err := s.Get(ctx, c.key(chainID(ch.Links[:i+1])))
		if errors.Is(err, cache.ErrMiss) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// size is that of the layers, in bytes as they are compressed.
func (ch *chain) size() (n int64) {
	for _, l := range ch.Links {
		n += l.Layer.Size
	}
	return n
}

const (
	// maxLinks is how many layers a chain may have, since looking them up takes a round trip each.
	maxLinks = 8
	// maxAdded is what the layers above the lowest may have together, as a share of it. Up to that they cost less to fetch
	// than it would to send everything anew.
	maxAdded = 0.5
)

// merge returns how many of the uppermost layers one more layer of that size is to take the place of, so that the chain
// does not become too long. Like a log-structured tree it puts together those that are smaller than what is below them: a
// byte is sent again as often as the layers grow. A change of one package in a Go build has 16 KB where the cache has 21 MB: 500 of
// them send 37 MB, where a chain that is begun anew after 8 would send 1.2 GB.
func (ch *chain) merge(size int64) int {
	if len(ch.Links) < maxLinks {
		return 0
	}
	n := 1
	for size += ch.Links[len(ch.Links)-n].Layer.Size; n < len(ch.Links)-1; n++ {
		next := ch.Links[len(ch.Links)-n-1].Layer.Size
		if next >= size {
			break
		}
		size += next
	}
	return n
}

// outgrown reports whether a chain is to be begun anew, instead of getting one more layer of that size.
func (ch *chain) outgrown(size int64, ttl time.Duration) bool {
	lowest := ch.Links[0]
	added := ch.size() - lowest.Layer.Size + size
	// What may be removed for its age must not be a part of what is younger.
	old := ttl > 0 && time.Since(lowest.Created) > ttl/2
	return float64(added) > maxAdded*float64(lowest.Layer.Size) || old
}

// layers describes the layers, which have no bytes.
func (ch *chain) layers() (list []v1.Layer) {
	for _, l := range ch.Links {
		list = append(list, described{l.Layer})
	}
	return list
}

func (ch *chain) encode() ([]byte, error) { return json.Marshal(ch) }

// decodeChain reads what encode wrote; nil if it is anything else, or the chain of another cache.
func decodeChain(data []byte, c Identity) *chain {
	var ch chain
	if err := json.Unmarshal(data, &ch); err != nil || ch.Cache != c.family() || len(ch.Links) == 0 {
		return nil
	}
	return &ch
}
