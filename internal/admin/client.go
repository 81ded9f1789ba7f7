package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client asks a running daemon.
type Client struct {
	address string
	base    string
	token   string
	http    *http.Client
	most    int // bytes of an answer that is taken as a whole
}

// maxAnswer is more than a daemon answers: a hundred bytes each for the penalties of some
// twenty rules that are full. Another server may go on without end.
const maxAnswer = 256 << 20

// NewClient is for the daemon at unix:PATH, at an absolute path, or at
// http://HOST:PORT or https://HOST:PORT, where it needs the token. It does not
// connect yet.
func NewClient(address, token string) (*Client, error) {
	c := &Client{address: address, base: address, token: token, most: maxAnswer}
	transport := &http.Transport{TLSHandshakeTimeout: requestTime, ResponseHeaderTimeout: requestTime, IdleConnTimeout: idleTime}
	c.http = &http.Client{Transport: transport}
	path, isPath := strings.CutPrefix(address, "unix:")
	switch {
	case isPath && path != "", strings.HasPrefix(address, "/"):
		c.address, c.base = "unix:"+path, "http://daemon"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
		}
		return c, nil
	case !isWeb(address):
		return nil, fmt.Errorf("%q is no address of a daemon; write unix:/run/audit-milter/admin.sock or http://127.0.0.1:9980", address)
	case token == "":
		return nil, fmt.Errorf("%s needs a token; name its file with --token-file", address)
	}
	return c, nil
}

// isWeb reports whether an address is that of a host alone, by HTTP.
func isWeb(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.Path == "" && u.RawQuery == ""
}

// Address is where the daemon is.
func (c *Client) Address() string { return c.address }

// ErrUnreachable is that there is no daemon at the address.
var ErrUnreachable = errors.New("the daemon cannot be reached")

// Stream asks with parameters; the answer's text is read while it comes.
func (c *Client) Stream(ctx context.Context, path string, params url.Values) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path+"?"+params.Encode(), nil)
	if err != nil {
		return nil, err
	}
	return c.do(r)
}

// Get asks with parameters and returns the answer's JSON.
func (c *Client) Get(ctx context.Context, path string, params url.Values) ([]byte, error) {
	body, err := c.Stream(ctx, path, params)
	if err != nil {
		return nil, err
	}
	return c.whole(body)
}

// Post asks for a change and returns the answer's JSON.
func (c *Client) Post(ctx context.Context, path string, change any) ([]byte, error) {
	data, err := json.Marshal(change)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	body, err := c.do(r)
	if err != nil {
		return nil, err
	}
	return c.whole(body)
}

// whole reads an answer to its end, as far as it is not too long.
func (c *Client) whole(body io.ReadCloser) ([]byte, error) {
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, int64(c.most)+1))
	if err == nil && len(data) > c.most {
		return nil, fmt.Errorf("the answer of %s is longer than %d bytes, and is not read further", c.address, c.most)
	}
	return data, err
}

// do sends a request. An answer of no is an [Error].
func (c *Client) do(r *http.Request) (io.ReadCloser, error) {
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.address, errors.Unwrap(err))
	}
	if answer.StatusCode == http.StatusOK {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	var said Error
	if json.Unmarshal(text, &said) == nil && said.Message != "" {
		return nil, said
	}
	return nil, fmt.Errorf("%s answers %s", c.address, answer.Status)
}
