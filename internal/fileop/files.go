package fileop

import "iter"

// files is a list of many files. It grows in blocks, so that a second copy is never made, and pointers into it stay good.
type files struct {
	blocks [][]file
	count  int
}

// Sizes of blocks, in files.
const (
	minBlock = 8
	maxBlock = 512
)

func (l *files) add(f file) {
	last := len(l.blocks) - 1
	if last < 0 || len(l.blocks[last]) == cap(l.blocks[last]) {
		size := minBlock
		if last >= 0 {
			size = min(2*cap(l.blocks[last]), maxBlock)
		}
		l.blocks = append(l.blocks, make([]file, 0, size))
		last++
	}
	l.blocks[last] = append(l.blocks[last], f)
	l.count++
}

// all returns the files in the order in which they were added, numbered from 0.
func (l *files) all() iter.Seq2[int, *file] {
	return func(yield func(int, *file) bool) {
		n := 0
		for _, block := range l.blocks {
			for i := range block {
				if !yield(n, &block[i]) {
					return
				}
				n++
			}
		}
	}
}
