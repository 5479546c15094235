// Package unfit says why a driver does not work in a place, and what would change that.
package unfit

// Error is the answer of a driver's probe.
type Error struct {
	Why    string
	Remedy string // what to do, as an order
}

func (e *Error) Error() string { return e.Why + ": " + e.Remedy }
