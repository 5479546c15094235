package blob

import "time"

// SetStall makes a store give up sooner.
func (s *Store) SetStall(d time.Duration) { s.stall = d }
