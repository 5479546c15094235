package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/gobuild-dev/gobuild/pkg/build"
	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// newCache groups the commands that look at what is kept of steps.
func newCache(log *logrus.Logger) *cobra.Command {
	c := &cobra.Command{
		Use:   "cache",
		Short: "List, inspect and remove kept results of steps",
		Long: `List, inspect and remove kept results of steps.

A place is given as to --cache-from and --cache-to: a repository, or type=registry|local|s3|azblob|gcs,...
Without one it is the work directory.`,
	}
	c.AddCommand(newCacheList(log), newCacheInspect(log), newCachePrune(log))
	return c
}

// lister is a store whose contents can be listed.
type lister interface {
	List(ctx context.Context) ([]cache.Item, error)
}

// cacheCommand is what the commands have in common.
type cacheCommand struct {
	registry registryFlags
	workDir  string
	format   string
}

func (q *cacheCommand) register(c *cobra.Command) {
	f := c.Flags()
	q.registry.register(f)
	f.StringVar(&q.format, "format", "text", "text or json")
	registerWorkDir(f, &q.workDir)
	f.SortFlags = false
}

// open opens the place that args name, and calls use.
func (q *cacheCommand) open(ctx context.Context, log *logrus.Logger, args []string, use func(lister) error) (err error) {
	if q.format != "text" && q.format != "json" {
		return usagef("--format %q is none of text, json", q.format)
	}
	if len(args) == 0 {
		store, err := build.OpenWorkDir(ctx, q.workDir)
		if err != nil {
			return err
		}
		return errors.Join(use(store), store.Close())
	}
	place, err := cache.ParsePlace(args[0], cache.From)
	if err != nil {
		return &usageError{err}
	}
	client, err := q.registry.client(func(text string) { log.Warn(text) })
	if err != nil {
		return err
	}
	defer client.Close()
	// As one that is written: who looks at a cache may want to remove something from it.
	store, end, err := openPlace(ctx, client, place, cache.To)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	l, ok := store.(lister)
	if !ok {
		return usagef("a cache of type %s cannot be listed", place.Type)
	}
	return use(l)
}

func newCacheList(log *logrus.Logger) *cobra.Command {
	var q cacheCommand
	c := &cobra.Command{
		Use:   "ls [PLACE]",
		Short: "List kept results of steps, the latest first",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return q.open(c.Context(), log, args, func(l lister) error {
				items, err := l.List(c.Context())
				if err != nil {
					return err
				}
				slices.SortFunc(items, func(a, b cache.Item) int {
					return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Name, b.Name))
				})
				if q.format == "json" {
					return printItems(items)
				}
				return listItems(items)
			})
		},
	}
	q.register(c)
	return c
}

// shownKey is how much of a key tells it from others.
const shownKey = 16

func listItems(items []cache.Item) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tAGE\tSIZE\tSTEP")
	for _, it := range items {
		text := it.Step
		if it.Problem != "" {
			text = strings.TrimSpace(text + " (" + it.Problem + ")")
		}
		prefix, id := "", it.Name
		if i := strings.LastIndexByte(id, '-'); i >= 0 {
			prefix, id = id[:i+1], id[i+1:]
		}
		name := prefix + id[:min(len(id), shownKey)]
		text = strings.Join(strings.Fields(text), " ")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, units.HumanDuration(time.Since(it.Created)), units.HumanSize(float64(it.Size)), text)
	}
	return w.Flush()
}

// printedItem is an item in JSON.
type printedItem struct {
	Key     string    `json:"key"`
	Created time.Time `json:"created"`
	Size    int64     `json:"size"`
	Step    string    `json:"step,omitempty"`
	Digest  string    `json:"digest,omitempty"`
	DiffID  string    `json:"diffID,omitempty"`
	Media   string    `json:"mediaType,omitempty"`
	Ref     string    `json:"ref,omitempty"`
	Problem string    `json:"problem,omitempty"`
}

func printed(it cache.Item) printedItem {
	p := printedItem{Key: it.Name, Created: it.Created, Size: it.Size, Step: it.Step, Ref: it.Ref, Problem: it.Problem}
	if it.Layer != nil {
		p.Digest, p.DiffID, p.Media = it.Layer.Digest.String(), it.Layer.DiffID.String(), string(it.Layer.MediaType)
	}
	return p
}

func printItems(items []cache.Item) error {
	list := make([]printedItem, 0, len(items))
	for _, it := range items {
		list = append(list, printed(it))
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(list)
}

func newCacheInspect(log *logrus.Logger) *cobra.Command {
	var q cacheCommand
	c := &cobra.Command{
		Use:   "inspect [PLACE] KEY",
		Short: "Show one kept result; the beginning of its key will do",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			prefix := args[len(args)-1]
			return q.open(c.Context(), log, args[:len(args)-1], func(l lister) error {
				items, err := l.List(c.Context())
				if err != nil {
					return err
				}
				items = slices.DeleteFunc(items, func(it cache.Item) bool { return !strings.HasPrefix(it.Name, prefix) })
				if len(items) == 0 {
					return fmt.Errorf("inspect cache: nothing has a key that begins with %q", prefix)
				}
				if q.format == "json" {
					return printItems(items)
				}
				for _, it := range items {
					inspect(printed(it))
				}
				return nil
			})
		},
	}
	q.register(c)
	return c
}

func inspect(p printedItem) {
	fmt.Printf("key      %s\nstep     %s\ncreated  %s\n", p.Key, p.Step, p.Created.Format(time.RFC3339))
	if p.Digest == "" {
		fmt.Println("layer    none")
	} else {
		fmt.Printf("layer    %s, %d bytes, %s\ndiff ID  %s\n", p.Digest, p.Size, p.Media, p.DiffID)
	}
	fmt.Printf("at       %s\n", p.Ref)
	if p.Problem != "" {
		fmt.Printf("problem  %s\n", p.Problem)
	}
}

func newCachePrune(log *logrus.Logger) *cobra.Command {
	var q cacheCommand
	var keep keepFlags
	c := &cobra.Command{
		Use:   "prune [PLACE]",
		Short: "Remove kept results of steps",
		Long: `Remove kept results of steps from a place.

Without a place it removes from the work directory, as 'gobuild prune' does. Without flags everything is removed.`,
		Example: `  # Keep a week's worth in a repository.
  gobuild cache prune --keep-for 168h registry.example.com/team/app/cache`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			bytes, err := keep.bytes()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return pruneWorkDir(c.Context(), build.PruneOptions{WorkDir: q.workDir, KeepFor: keep.duration, KeepBytes: bytes})
			}
			return q.open(c.Context(), log, args, func(l lister) error {
				keeper, ok := l.(cache.Keeper)
				if !ok {
					return fmt.Errorf("prune cache: %s removes nothing", args[0])
				}
				p, err := cache.Prune(c.Context(), keeper, cache.PruneOptions{KeepFor: keep.duration, KeepBytes: bytes})
				printPruned(p.Items, p.Bytes, p.Kept, p.BytesKept)
				return err
			})
		},
	}
	keep.register(c.Flags())
	q.register(c)
	return c
}
