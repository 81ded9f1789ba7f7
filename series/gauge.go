package series

// DefineGauge makes a series of what there is at present, not of what happened: of
// connections that are open, say. It is of type [IP] and has one window, which
// never ends whatever the clock says, so times mean nothing to it and Interval is 0.
// A key leaves when an Add brings its count down to 0. None is ever evicted: who
// uses it bounds how many there are.
func DefineGauge(name string) *Series {
	return newSeries(Definition{Name: name, Type: IP, Windows: 1, MaxKeys: MaxMaxKeys}, nil)
}

// settle lets a key go that counts nothing.
func (t *tree) settle(a address, text string) {
	if i, place := t.find(a, text); place >= 0 && t.expired(t.leaves.at(i), place) {
		t.drop(i, place)
		t.tidy(a)
	}
}
