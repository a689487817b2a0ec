// Package esapi has what KEDA's scalers name of Elasticsearch's.
package esapi

import (
	"context"
	"io"
)

// Response is an answer of Elasticsearch.
type Response struct {
	StatusCode int
	Body       io.ReadCloser
}

// IsError tells whether the answer is an error.
func (*Response) IsError() bool { return true }

// Request is what options of searches change.
type Request struct{}

// Info asks who answers.
type Info func(...func(*Request)) (*Response, error)

// Search searches.
type Search func(...func(*Request)) (*Response, error)

// SearchTemplate searches by a template.
type SearchTemplate func(io.Reader, ...func(*Request)) (*Response, error)

func none(*Request) {}

// WithIndex is an option.
func (Search) WithIndex(...string) func(*Request) { return none }

// WithBody is an option.
func (Search) WithBody(io.Reader) func(*Request) { return none }

// WithContext is an option.
func (Search) WithContext(context.Context) func(*Request) { return none }

// WithIndex is an option.
func (SearchTemplate) WithIndex(...string) func(*Request) { return none }

// WithContext is an option.
func (SearchTemplate) WithContext(context.Context) func(*Request) { return none }
