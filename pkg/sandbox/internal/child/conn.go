// Package child runs parts of this program in processes of their own: a process that is to enter
// namespaces must not have threads, which every Go program has, so the program executes itself, or a smaller one
// with the same operations, and tells the child what to do over a pair of pipes.
package child

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// Conn is one end of the conversation between a child and the process that started it: values, one
// after another, in each direction. Strings in them may hold any bytes, as paths do.
type Conn struct {
	in  *gob.Decoder
	out *gob.Encoder
}

func newConn(in io.Reader, out io.Writer) *Conn {
	return &Conn{in: gob.NewDecoder(in), out: gob.NewEncoder(out)}
}

// envelope goes before each value, or in its place.
type envelope struct {
	Error *Error
}

// Send sends v. Receive is its counterpart.
func (c *Conn) Send(v any) error {
	if err := c.out.Encode(envelope{}); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	if err := c.out.Encode(v); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

// Receive waits for the other end's next value and decodes it into v. When the other end has
// reported an error, that is returned; when it has gone, the error wraps io.EOF or
// io.ErrUnexpectedEOF.
func (c *Conn) Receive(v any) error {
	var e envelope
	if err := c.in.Decode(&e); err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	if e.Error != nil {
		return e.Error
	}
	if err := c.in.Decode(v); err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	return nil
}

func (c *Conn) fail(err error) error { return c.out.Encode(envelope{Error: wireError(err)}) }

// Error is an error that happened in a child.
type Error struct {
	Text string
	// Errno is the system call error at its root, if any, so that errors.Is finds it on this
	// side, too.
	Errno syscall.Errno
}

func (e *Error) Error() string { return e.Text }

// Unwrap returns the system call error.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

func wireError(err error) *Error {
	e := &Error{Text: err.Error()}
	errors.As(err, &e.Errno)
	return e
}

// The child's ends of the pipes, after its standard streams, and its program where that has no path.
const (
	fdIn      = 3
	fdOut     = 4
	fdProgram = 5
)

// name is what a child has in place of the name of its program.
const name = "gobuild-sandbox-child"

// Op is the work of a child. It is called on the main thread of the process, on which it stays.
type Op func(c *Conn) error

// Main does the work of a child and exits when this process is one; otherwise it returns at
// once.
func Main(ops map[string]Op) {
	if len(os.Args) < 3 || os.Args[0] != name {
		return
	}
	in, out := os.NewFile(fdIn, "requests"), os.NewFile(fdOut, "replies")
	c := newConn(in, out)
	if err := run(c, ops, os.Args[1], os.Args[2:]); err != nil {
		_ = c.fail(err) // when the parent has gone there is nobody to tell
		os.Exit(1)
	}
	os.Exit(0)
}

func run(c *Conn, ops map[string]Op, parents string, args []string) error {
	if err := sameBuild(parents); err != nil {
		return err
	}
	if err := prepare(); err != nil {
		return err
	}
	if args[0] == waitForIDs {
		return becomeRoot(c, args[1:])
	}
	op := ops[args[0]]
	if op == nil {
		return fmt.Errorf("start child: unknown operation %q", args[0])
	}
	return op(c)
}
