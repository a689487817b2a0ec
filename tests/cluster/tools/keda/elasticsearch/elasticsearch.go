// Package elasticsearch stands in for Elasticsearch's client, whose thousand packages take longer to build than all
// the rest of KEDA: KEDA's scalers of Elasticsearch compile, and say that they were left out. No test has one.
package elasticsearch

import (
	"errors"
	"net/http"

	"github.com/elastic/go-elasticsearch/v9/esapi"
)

var errLeftOut = errors.New("this KEDA is built without Elasticsearch")

// Client is never made.
type Client struct {
	Info           esapi.Info
	Search         esapi.Search
	SearchTemplate esapi.SearchTemplate
}

// Option is one of New.
type Option struct{}

// New refuses.
func New(...Option) (*Client, error) { return nil, errLeftOut }

// Perform refuses.
func (*Client) Perform(*http.Request) (*http.Response, error) { return nil, errLeftOut }

// WithAddresses is an option.
func WithAddresses(...string) Option { return Option{} }

// WithCloudID is an option.
func WithCloudID(string) Option { return Option{} }

// WithAPIKey is an option.
func WithAPIKey(string) Option { return Option{} }

// WithBasicAuth is an option.
func WithBasicAuth(string, string) Option { return Option{} }

// WithTransportOptions is an option.
func WithTransportOptions(...any) Option { return Option{} }
