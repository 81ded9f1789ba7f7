package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/audit-milter/audit-milter/policy"
)

// Webhook posts JSON to a URL.
type Webhook struct {
	URL   *url.URL
	Token string // sent as Authorization: Bearer, unless ""
}

// client keeps no connection between notifications, which are rare. Nor does it
// follow to another address: that would turn the POST into a GET.
var client = &http.Client{
	Transport: staying{&http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}},
}

// staying is a transport whose answers name no other address, since one that is
// malformed would be an error in place of the answer.
type staying struct{ http.RoundTripper }

func (s staying) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := s.RoundTripper.RoundTrip(request)
	if err == nil {
		response.Header.Del("Location")
	}
	return response, err
}

// String is the host alone: a webhook's path is often its password.
func (w *Webhook) String() string { return "webhook at " + w.URL.Host }

func (w *Webhook) send(ctx context.Context, n *notice) error {
	ctx, cancel := context.WithTimeoutCause(ctx, attemptTime, errSlow(attemptTime))
	defer cancel()
	request, err := w.request(ctx, n)
	if err != nil {
		return permanentError{err}
	}
	response, err := client.Do(request)
	if err != nil {
		if with, ok := errors.AsType[*url.Error](err); ok {
			err = with.Err // without the URL
		}
		return unanswered(ctx, err)
	}
	defer response.Body.Close()
	return answered(response)
}

func (w *Webhook) request(ctx context.Context, n *notice) (*http.Request, error) {
	body, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "audit-milter")
	if w.Token != "" {
		request.Header.Set("Authorization", "Bearer "+w.Token)
	}
	return request, nil
}

// maxSaid is how much of an answer's text the log shows, in bytes.
const maxSaid = 200

// said is an answer's text as the log shows it.
func said(text string) string { return beginning(text, maxSaid) }

// beginning is as much of a text as a line may have, in bytes, and printable.
func beginning(text string, most int) string { return policy.Printable(text[:min(len(text), most)]) }

// answered is the error of an answer. It is permanent unless the server is in
// trouble or asks to come back later.
func answered(response *http.Response) error {
	if response.StatusCode/100 == 2 {
		return nil
	}
	var text []byte                                           // for people; what there is of it will do
	if response.StatusCode != http.StatusSwitchingProtocols { // behind which the end of ctx ends no reading
		text, _ = io.ReadAll(io.LimitReader(response.Body, maxSaid))
	}
	err := fmt.Errorf("the webhook answers %s: %s", said(response.Status), said(string(bytes.TrimSpace(text))))
	switch code := response.StatusCode; {
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500:
		return err
	}
	return permanentError{err}
}
