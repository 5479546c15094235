package members

import "sync"

// Reuse keeps encoders and chunks from one writer to the next: the tables of an encoder and a chunk are a megabyte, which for
// a small stream is most of the work. What is not used for a while goes to the collector. The zero value is ready, and it is safe for
// concurrent use by writers of any formats. A nil *Reuse keeps nothing.
type Reuse struct {
	mu    sync.Mutex
	pools map[string]*pool // by name of format
}

// pool is what writers of one format leave for others.
type pool struct {
	encoders, chunks sync.Pool
}

// of returns the pool of a format, which is empty when nothing is kept.
func (r *Reuse) of(format string) *pool {
	if r == nil {
		return &pool{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pools == nil {
		r.pools = map[string]*pool{}
	}
	p := r.pools[format]
	if p == nil {
		p = &pool{}
		r.pools[format] = p
	}
	return p
}

// encoder returns one that nobody uses, which may be new.
func (p *pool) encoder(f Format) (Encoder, error) {
	if e, ok := p.encoders.Get().(Encoder); ok {
		return e, nil
	}
	return f.New()
}

// chunk returns one that nobody uses, which may be new.
func (p *pool) chunk(size int) *chunk {
	if c, ok := p.chunks.Get().(*chunk); ok {
		return c
	}
	return &chunk{in: make([]byte, 0, size), done: make(chan error, 1)}
}
