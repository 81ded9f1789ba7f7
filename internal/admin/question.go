package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/audit-milter/audit-milter/policy"
)

// question is one request: what it asks, whom, and when.
type question struct {
	*Server
	engine *policy.Engine // the one in force when it came
	now    time.Time
	form   url.Values // the parameters of a GET
}

// get is the handler of a question with the named parameters.
func get[A any](answer func(*question) (A, error), params ...string) func(*question, http.ResponseWriter, *http.Request) error {
	return func(q *question, w http.ResponseWriter, r *http.Request) error {
		if err := q.readForm(r, params); err != nil {
			return err
		}
		a, err := answer(q)
		if err == nil {
			writeJSON(w, http.StatusOK, a)
		}
		return err
	}
}

// post is the handler of a change, whose JSON is all of C.
func post[C, A any](answer func(*question, C) (A, error)) func(*question, http.ResponseWriter, *http.Request) error {
	return func(q *question, w http.ResponseWriter, r *http.Request) error {
		var change C
		if err := readJSON(r.Body, &change); err != nil {
			return err
		}
		a, err := answer(q, change)
		if err == nil {
			writeJSON(w, http.StatusOK, a)
		}
		return err
	}
}

// readForm takes the named parameters, each once, and no other.
func (q *question) readForm(r *http.Request, params []string) (err error) {
	if q.form, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return fmt.Errorf("the parameters cannot be read: %w", err)
	}
	for name, values := range q.form {
		switch {
		case !slices.Contains(params, name):
			return policy.UnknownError{What: "parameter", Name: name, Known: params}
		case len(values) > 1:
			return fmt.Errorf("the parameter %s is given %d times; once is right", name, len(values))
		}
	}
	return nil
}

// readJSON reads one value that has no field too many.
func readJSON(body io.Reader, into any) error {
	data, err := io.ReadAll(body)
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return fail(http.StatusRequestEntityTooLarge, fmt.Sprintf("a request has at most %d bytes", maxBody))
	}
	if err == nil {
		err = decode(data, into)
	}
	if err != nil {
		return fmt.Errorf("the JSON is not what is needed here: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

func decode(data []byte, into any) error {
	if !utf8.Valid(data) { // the library would make another key of it
		return errors.New("it is not UTF-8; other bytes of a key are spelt as the log has them")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("something stands behind it")
		}
	}
	return err
}

// Error is the answer to what is not answered otherwise, and what a [Client] makes
// of it.
type Error struct {
	Message string `json:"error"`
	Row     *int   `json:"row,omitempty"` // of a load: the one with the mistake, from 0
}

func (e Error) Error() string { return e.Message }

// writeError answers with the failure's status; any other error is the asker's.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	if f, ok := errors.AsType[failure](err); ok {
		status = f.status
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	answer, ok := errors.AsType[Error](err)
	if !ok {
		answer.Message = err.Error()
	}
	writeJSON(w, status, answer)
}

func writeJSON(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(answer) // its error is that nobody reads any more
}

// series is that of the name.
func (q *question) series(name string) (*policy.Lasting, error) {
	if l := q.engine.Lasting(name); l != nil {
		return l, nil
	}
	if name == "" {
		return nil, errors.New("series is missing; it names one")
	}
	return nil, failure{http.StatusNotFound, policy.UnknownError{What: "series", Name: name, Known: names(q.engine.Counters())}}
}

func names(counters []policy.Counter) []string {
	names := make([]string, len(counters))
	for i, c := range counters {
		names[i] = c.Definition().Name
	}
	return names
}

// target is a series and what is asked of it.
func (q *question) target(name, key string) (*policy.Lasting, policy.Target, error) {
	l, err := q.series(name)
	if err != nil {
		return nil, policy.Target{}, err
	}
	t, err := q.engine.ParseTarget(l.Counter, key, q.now)
	return l, t, err
}

// partOf is what the node that is asked for has counted in a series, and its name.
func (q *question) partOf(l *policy.Lasting) (part policy.Counter, node string, err error) {
	if node, err = q.node(); err == nil {
		part, err = q.part(l, node)
	}
	return part, node, err
}

// windows is the range of windows that a parameter names, all in the series; 0
// without one.
func windows(text string, c policy.Counter) (from, to int, err error) {
	if text == "" {
		return 0, 0, nil
	}
	from, to, err = policy.ParseWindows(text)
	if def := c.Definition(); err == nil && to >= def.Windows {
		err = fmt.Errorf("the series %s has windows 0-%d; %d is beyond", def.Name, def.Windows-1, to)
	}
	return from, to, err
}
