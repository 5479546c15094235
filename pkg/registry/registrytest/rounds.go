package registrytest

import (
	"net/http"
	"sync"
	"time"
)

// Rounds holds requests back until the client has sent all that it can send without an answer, then lets them through
// together, and so on: the number of such rounds is how many round trips the client waits for, one after the other, however
// many connections it has and however fast anything is.
type Rounds struct {
	idle func() bool
	stop chan struct{}
	done chan struct{}

	mu       sync.Mutex
	waiting  []chan struct{}
	arrivals int
	moving   int // requests that were let through and are not answered yet
	rounds   [][]Request
	asked    []Request // those that are waiting
}

// Samples of a client that does nothing, after which it is waiting, and the time between them.
const (
	idleSamples = 15
	sampleEvery = 2 * time.Millisecond
)

// Rounds begins to hold requests back. idle says whether the client is doing nothing but wait at this moment. End lets
// everything through.
func (p *Proxy) Rounds(idle func() bool) *Rounds {
	r := &Rounds{idle: idle, stop: make(chan struct{}), done: make(chan struct{})}
	p.Inject(r.hold)
	go r.run()
	return r
}

// End lets all requests through from now on, and returns the requests of each round.
func (r *Rounds) End() [][]Request {
	close(r.stop)
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rounds
}

func (r *Rounds) hold(_ *http.Request, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		select {
		case <-r.enter(req):
		case <-r.done:
		case <-req.Context().Done():
		}
		defer r.leave()
		next.ServeHTTP(w, req)
	})
}

func (r *Rounds) enter(req *http.Request) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := make(chan struct{})
	r.arrivals++
	r.moving++
	r.waiting = append(r.waiting, ch)
	r.asked = append(r.asked, Request{Method: req.Method, Path: req.URL.Path, Query: req.URL.Query()})
	return ch
}

func (r *Rounds) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moving--
}

func (r *Rounds) run() {
	defer close(r.done)
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for samples, seen := 0, 0; ; {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		}
		idle := r.idle()
		r.mu.Lock()
		if idle && r.arrivals == seen && len(r.waiting) > 0 && r.moving == len(r.waiting) {
			samples++
		} else {
			samples, seen = 0, r.arrivals
		}
		if samples == idleSamples {
			samples = 0
			r.release()
		}
		r.mu.Unlock()
	}
}

func (r *Rounds) release() {
	for _, ch := range r.waiting {
		close(ch)
	}
	r.rounds = append(r.rounds, r.asked)
	r.waiting, r.asked = nil, nil
}
