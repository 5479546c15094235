package azblob

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// answerError is an answer of the server in one line: Azure's own text has the whole exchange in it.
type answerError struct{ err *azcore.ResponseError }

func (e *answerError) Error() string {
	return fmt.Sprintf("the server answered %d %s", e.err.StatusCode, e.err.ErrorCode)
}

func (e *answerError) Unwrap() error { return e.err }

// short also leaves out the request's URL, which may have a signature in it.
func short(err error) error {
	var answer *azcore.ResponseError
	if errors.As(err, &answer) {
		return &answerError{answer}
	}
	var request *url.Error
	if errors.As(err, &request) {
		return fmt.Errorf("%s: %w", request.Op, request.Err)
	}
	return err
}
