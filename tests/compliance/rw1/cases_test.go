package rw1

import (
	"math"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/golang/snappy"
)

func of(value float64, millis int64, pairs ...string) sample {
	s := sample{bits: math.Float64bits(value), millis: millis}
	for i := 0; i+1 < len(pairs); i += 2 {
		s.labels = append(s.labels, label{pairs[i], pairs[i+1]})
	}
	return s
}

// spoilt is, for each case, something that arrived and must not satisfy it.
var spoilt = map[string][]sample{
	"Counter":        {of(0, 1, "__name__", "counter"), of(2, 2, "__name__", "counter")},
	"Gauge":          {of(1, 1000, "__name__", "now")},
	"Histogram":      {of(1, 1, "__name__", "histogram_bucket", "le", "1")},
	"Summary":        {of(2, 1, "__name__", "summary", "quantile", "0.50")},
	"Up":             {of(0, 1, "__name__", "up", "job", "test")},
	"Invalid":        {of(1, 1, "__name__", "up", "job", "test")},
	"JobLabel":       {of(42, 1, "__name__", "gauge")},
	"InstanceLabel":  {of(42, 1, "__name__", "gauge", "instance", "localhost:9090")},
	"SortedLabels":   {of(1, 1, "__name__", "test", "b", "2", "a", "1")},
	"RepeatedLabels": {of(1, 1, "__name__", "test", "a", "1")},
	"EmptyLabels":    {of(1, 1, "__name__", "test", "a", "")},
	"NameLabel":      {of(1, 1, "label", "value")},
	"HonorLabels":    {of(1, 1, "__name__", "test", "job", "original")},
	"Staleness":      {of(math.NaN(), 1, "__name__", "stale")},
	"Timestamp":      {of(42, 5000, "__name__", "gauge"), of(42, 4000, "__name__", "gauge")},
	"Headers":        {of(42, 1, "__name__", "gauge")},
	"Ordering":       {of(1, 5, "__name__", "metric_1"), of(1, 5, "__name__", "metric_1")},
	"Retries500":     {of(1, 2, "__name__", "now")},
	"Retries400":     {of(1, 1, "__name__", "now")},
}

func TestEachCheckFailsWhenNothingArrivedOrTheWrongThing(t *testing.T) {
	if len(cases) != 19 {
		t.Errorf("%d cases, expected 19", len(cases))
	}
	for _, c := range append(slices.Clone(cases), untyped) {
		empty := &lab{testCase: c}
		if empty.check(empty) == nil {
			t.Errorf("%s passes when nothing arrived", c.name)
		}
		wrong := &lab{
			testCase: c, samples: spoilt[c.name], refused: []sample{of(1, 1, "__name__", "now")},
			headers: []http.Header{{"Content-Encoding": {"gzip"}}}, from: time.UnixMilli(0), to: time.UnixMilli(9000),
		}
		if c.suite == "" && len(wrong.samples) == 0 {
			t.Errorf("%s has no counter-example", c.name)
		}
		if wrong.check(wrong) == nil {
			t.Errorf("%s passes with %v", c.name, wrong.samples)
		}
	}
}

func TestARepeatedLabelNameIsSeen(t *testing.T) {
	l := &lab{samples: []sample{of(1, 1, "__name__", "x", "a", "1", "a", "1")}}
	if checkUnique(l) == nil {
		t.Error("a repeated name passes")
	}
}

func TestOnlyCanonicalBoundsAreKnown(t *testing.T) {
	family := func(one, two string) []sample {
		return []sample{
			of(1, 1, "__name__", "histogram_bucket", "le", one), of(2, 1, "__name__", "histogram_bucket", "le", two),
			of(2, 1, "__name__", "histogram_bucket", "le", "+Inf"),
			of(3, 1, "__name__", "histogram_sum"), of(2, 1, "__name__", "histogram_count"),
		}
	}
	histogram := cases[slices.IndexFunc(cases, func(c testCase) bool { return c.name == "Histogram" })]
	for _, c := range []struct{ one, two, state string }{{"1", "2", "ok"}, {"1.0", "2.0", "known"}, {"1.00", "2.00", "FAIL"}} {
		l := &lab{testCase: histogram, samples: family(c.one, c.two)}
		if state := l.judge(nil).State; string(state) != c.state {
			t.Errorf("le=%q is %s, expected %s", c.one, state, c.state)
		}
	}
}

func TestDecodesAWriteRequestAndRefusesATornOne(t *testing.T) {
	message := []byte("\x0a\x28" + // one TimeSeries of 40 bytes
		"\x0a\x0e\x0a\x08__name__\x12\x02up" + "\x0a\x06\x0a\x01a\x12\x01b" +
		"\x12\x0e\x09\x02\x00\x00\x00\x00\x00\xf0\x7f\x10\xac\x02\x18\x00")
	samples, err := decode(snappy.Encode(nil, message))
	if err != nil || len(samples) != 1 {
		t.Fatalf("%v, %v", samples, err)
	}
	if s := samples[0]; s.bits != staleMarker || s.millis != 300 || !s.has("__name__", "up", "a", "b") {
		t.Errorf("%+v", s)
	}
	for cut := 1; cut < len(message); cut++ {
		if _, err := decode(snappy.Encode(nil, message[:cut])); err == nil {
			t.Errorf("a message cut to %d bytes passes", cut)
		}
	}
}
