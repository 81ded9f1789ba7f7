package milter

import (
	"sync"
	"time"
)

// The bounds of a throttle: how often one text is said, and how many texts are
// told apart. Texts beyond that number share one place.
const (
	sayEvery = time.Minute
	maxTexts = 256
)

// throttle keeps a text that comes again and again from filling the log.
type throttle struct {
	mu    sync.Mutex
	texts map[string]*saying
}

type saying struct {
	last    time.Time
	leftOut int
}

// ask reports whether text may be said now, and how often it was not since the
// last time that it was.
func (t *throttle) ask(text string, now time.Time) (leftOut int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	said := t.find(text, now)
	if now.Sub(said.last) < sayEvery {
		said.leftOut++
		return 0, false
	}
	leftOut = said.leftOut
	*said = saying{last: now}
	return leftOut, true
}

func (t *throttle) find(text string, now time.Time) *saying {
	if t.texts == nil {
		t.texts = make(map[string]*saying)
	}
	if len(t.texts) >= maxTexts {
		t.forget(now)
	}
	if len(t.texts) >= maxTexts && t.texts[text] == nil {
		text = ""
	}
	if t.texts[text] == nil {
		t.texts[text] = new(saying)
	}
	return t.texts[text]
}

// forget makes room by the texts that may be said again.
func (t *throttle) forget(now time.Time) {
	for text, said := range t.texts {
		if now.Sub(said.last) >= sayEvery {
			delete(t.texts, text)
		}
	}
}
