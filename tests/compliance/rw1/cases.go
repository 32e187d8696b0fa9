package rw1

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

const staleMarker = 0x7ff0000000000002

// testCase is one of the 19 cases, or a variant of one.
type testCase struct {
	suite  string // for a variant, which is no part of the 19
	name   string
	what   string
	static string               // what the target serves, always the same, or
	expose func(n int) string   // what it serves at its n-th scrape, from 0
	refuse int                  // status of the first push; 0 = accepted
	delay  func() time.Duration // how long each push takes
	check  func(*lab) error
	// known tells a failure that is understood and intended from any other: nil, or the same check as it would pass.
	known    func(*lab) error
	knownWhy string
}

var cases = []testCase{
	{name: "Counter", what: "no scrape lost, repeated or out of order",
		expose: func(n int) string { return metric("counter", "counter", float64(n)) }, check: checkCounter},
	{name: "Gauge", what: "value within 1 % of its timestamp", expose: now, check: checkGauge},
	{name: "Histogram", what: `buckets le="1", "2", "+Inf", sum and count, equally often`,
		expose: func(int) string { return "# HELP histogram \n# TYPE histogram histogram\n" + histogram },
		check:  checkHistogram("1", "2"), known: checkHistogram("1.0", "2.0"),
		knownWhy: `le="1.0": bounds are written in canonical form, as Prometheus 3 does`},
	{name: "Summary", what: "quantiles 0.5, 0.9, 0.99, sum and count, equally often",
		expose: func(int) string { return summary }, check: checkSummary},
	{name: "Up", what: "up is 1", expose: now, check: checkUp(1)},
	{name: "Invalid", what: "up is 0 when the target talks nonsense",
		static: "# this is not valid prometheus\n1234notvali}{ 444", check: checkUp(0)},
	{name: "JobLabel", what: "series carry the job", expose: gauge42,
		check: present(42, "__name__", "gauge", "job", "test")},
	{name: "InstanceLabel", what: "every series carries the instance", expose: gauge42, check: checkInstance},
	{name: "SortedLabels", what: "label names are sorted", static: `test{b="2",a="1"} 1.0`,
		check: all(checkSorted, present(1, "__name__", "test", "a", "1", "b", "2"))},
	{name: "RepeatedLabels", what: "a repeated label fails the scrape", static: `test{a="1",a="1"} 1.0`,
		check: all(checkUnique, absent("__name__", "test", "a", "1"))},
	{name: "EmptyLabels", what: "empty labels are not sent", static: `test{a=""} 1.0`,
		check: all(checkNoEmpty, present(1, "__name__", "test"))},
	{name: "NameLabel", what: "every series has a name", static: `{label="value"} 1.0`,
		check: all(checkNamed, absent("label", "value"))},
	{name: "HonorLabels", what: "clashing labels become exported_*", static: `test{job="original", instance="foo"} 1.0`,
		check: present(1, "__name__", "test", "exported_job", "original", "exported_instance", "foo", "job", "test")},
	{name: "Staleness", what: "a vanished series gets the stale marker", expose: vanishing, check: checkStale},
	{name: "Timestamp", what: "timestamps lie within the run and never go back", expose: gauge42, check: checkTimestamps},
	{name: "Headers", what: "the three headers, exactly", expose: gauge42, check: checkHeaders},
	{name: "Ordering", what: "each of 1,000 series in order over slow pushes", expose: thousand,
		delay: func() time.Duration { return rand.N(5 * time.Second) }, check: checkOrdering},
	{name: "Retries500", what: "a push answered 500 is sent again", expose: now, refuse: http.StatusInternalServerError,
		check: checkRefused(true)},
	{name: "Retries400", what: "a push answered 400 is not sent again", expose: now, refuse: http.StatusBadRequest,
		check: checkRefused(false)},
}

// untyped is Histogram without the TYPE line, so that nothing is normalised.
var untyped = testCase{suite: Suite + "+", name: "Histogram, untyped", what: "the same without a TYPE line, where no bound is rewritten",
	expose: func(int) string { return histogram }, check: checkHistogram("1", "2")}

// What the targets say.

const histogram = `histogram_bucket{le="1"} 1
histogram_bucket{le="2"} 2
histogram_bucket{le="+Inf"} 2
histogram_sum 3
histogram_count 2
`

const summary = `# HELP summary 
# TYPE summary summary
summary{quantile="0.5"} 2
summary{quantile="0.9"} 3
summary{quantile="0.99"} 3
summary_sum 6
summary_count 3
`

func metric(name, kind string, value float64) string {
	return fmt.Sprintf("# HELP %s \n# TYPE %s %s\n%s %g\n", name, name, kind, name, value)
}

func now(int) string { return metric("now", "gauge", float64(time.Now().Unix()*1000)) }

func gauge42(int) string { return metric("gauge", "gauge", 42) }

func vanishing(n int) string {
	if n == 0 {
		return metric("stale", "gauge", 1)
	}
	return ""
}

func thousand(n int) string {
	var b strings.Builder
	for i := range 1000 {
		b.WriteString(metric(fmt.Sprintf("metric_%d", i), "gauge", float64(n)))
	}
	return b.String()
}

// What the receiver must have seen.

// find returns the samples whose series carry the labels, in arrival order.
func (l *lab) find(pairs ...string) []sample {
	var found []sample
	for _, s := range l.samples {
		if s.has(pairs...) {
			found = append(found, s)
		}
	}
	return found
}

func all(checks ...func(*lab) error) func(*lab) error {
	return func(l *lab) error {
		for _, check := range checks {
			if err := check(l); err != nil {
				return err
			}
		}
		return nil
	}
}

func present(value float64, pairs ...string) func(*lab) error {
	return func(l *lab) error {
		for _, s := range l.find(pairs...) {
			if s.value() == value {
				return nil
			}
		}
		return fmt.Errorf("no sample of %v with value %v among %d", pairs, value, len(l.samples))
	}
}

func absent(pairs ...string) func(*lab) error {
	return func(l *lab) error {
		if found := l.find(pairs...); len(found) > 0 {
			return fmt.Errorf("%d samples of %v, expected none", len(found), pairs)
		}
		return nil
	}
}

// each asks every sample; none at all is a failure too.
func (l *lab) each(samples []sample, ask func(sample) error) error {
	if len(samples) == 0 {
		return fmt.Errorf("no sample of it among the %d that arrived", len(l.samples))
	}
	for _, s := range samples {
		if err := ask(s); err != nil {
			return err
		}
	}
	return nil
}

func checkCounter(l *lab) error {
	expected := 0.0
	return l.each(l.find("__name__", "counter"), func(s sample) error {
		if s.value() != expected {
			return fmt.Errorf("counter is %v, expected %v", s.value(), expected)
		}
		expected++
		return nil
	})
}

func checkGauge(l *lab) error {
	return l.each(l.find("__name__", "now"), func(s sample) error {
		if math.Abs(s.value()-float64(s.millis)) > 0.01*float64(s.millis) {
			return fmt.Errorf("value %v is not within 1 %% of timestamp %d", s.value(), s.millis)
		}
		return nil
	})
}

// part is one series of a family and the one value it must have.
type part struct {
	value float64
	pairs []string
}

// checkParts asks for each part's value in every sample, and for equally many samples of each.
func checkParts(l *lab, parts []part) error {
	first := -1
	for _, p := range parts {
		found := l.find(p.pairs...)
		err := l.each(found, func(s sample) error {
			if s.value() != p.value {
				return fmt.Errorf("value %v, expected %v", s.value(), p.value)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%v: %w", p.pairs, err)
		}
		if first < 0 {
			first = len(found)
		}
		if len(found) != first {
			return fmt.Errorf("%v: %d samples, but %d of %v", p.pairs, len(found), first, parts[0].pairs)
		}
	}
	return nil
}

func checkHistogram(one, two string) func(*lab) error {
	return func(l *lab) error {
		return checkParts(l, []part{
			{1, []string{"__name__", "histogram_bucket", "le", one}},
			{2, []string{"__name__", "histogram_bucket", "le", two}},
			{2, []string{"__name__", "histogram_bucket", "le", "+Inf"}},
			{3, []string{"__name__", "histogram_sum"}},
			{2, []string{"__name__", "histogram_count"}},
		})
	}
}

func checkSummary(l *lab) error {
	return checkParts(l, []part{
		{2, []string{"__name__", "summary", "quantile", "0.5"}},
		{3, []string{"__name__", "summary", "quantile", "0.9"}},
		{3, []string{"__name__", "summary", "quantile", "0.99"}},
		{6, []string{"__name__", "summary_sum"}},
		{3, []string{"__name__", "summary_count"}},
	})
}

func checkUp(expected float64) func(*lab) error {
	return func(l *lab) error {
		return l.each(l.find("__name__", "up", "job", "test"), func(s sample) error {
			if s.value() != expected {
				return fmt.Errorf("up is %v at %d, expected %v", s.value(), s.millis, expected)
			}
			return nil
		})
	}
}

var instance = regexp.MustCompile(`^127\.0\.0\.1:\d+$`)

func checkInstance(l *lab) error {
	return l.each(l.samples, func(s sample) error {
		if value, _ := s.get("instance"); !instance.MatchString(value) {
			return fmt.Errorf("instance is %q in %s", value, s.series())
		}
		return nil
	})
}

func (s sample) names() []string {
	names := make([]string, 0, len(s.labels))
	for _, l := range s.labels {
		names = append(names, l.name)
	}
	return names
}

func checkSorted(l *lab) error {
	return l.each(l.samples, func(s sample) error {
		if !slices.IsSorted(s.names()) {
			return fmt.Errorf("label names are not sorted: %s", s.series())
		}
		return nil
	})
}

func checkUnique(l *lab) error {
	return l.each(l.samples, func(s sample) error {
		names := s.names()
		slices.Sort(names)
		if len(slices.Compact(names)) != len(s.labels) {
			return fmt.Errorf("a label name is repeated: %s", s.series())
		}
		return nil
	})
}

func checkNoEmpty(l *lab) error {
	return l.each(l.samples, func(s sample) error {
		for _, l := range s.labels {
			if l.value == "" {
				return fmt.Errorf("label %s is empty in %s", l.name, s.series())
			}
		}
		return nil
	})
}

func checkNamed(l *lab) error {
	return l.each(l.samples, func(s sample) error {
		if name, _ := s.get("__name__"); name == "" {
			return fmt.Errorf("no name: %s", s.series())
		}
		return nil
	})
}

func checkStale(l *lab) error {
	for _, s := range l.find("__name__", "stale") {
		if s.bits == staleMarker {
			return nil
		}
	}
	return fmt.Errorf("%d samples of stale, none is the marker %#x", len(l.find("__name__", "stale")), uint64(staleMarker))
}

func checkTimestamps(l *lab) error {
	before := int64(0)
	return l.each(l.samples, func(s sample) error {
		if s.millis <= l.from.UnixMilli() || s.millis >= l.to.UnixMilli() {
			return fmt.Errorf("timestamp %d is outside of the run, %d to %d", s.millis, l.from.UnixMilli(), l.to.UnixMilli())
		}
		if s.millis < before {
			return fmt.Errorf("timestamp %d arrived after %d", s.millis, before)
		}
		before = s.millis
		return nil
	})
}

func checkHeaders(l *lab) error {
	if len(l.headers) == 0 {
		return errors.New("no push arrived")
	}
	for _, h := range l.headers {
		for name, expected := range map[string]string{
			"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf",
			"X-Prometheus-Remote-Write-Version": "0.1.0",
		} {
			if value := h.Get(name); value != expected {
				return fmt.Errorf("%s is %q, expected %q", name, value, expected)
			}
		}
	}
	return nil
}

func checkOrdering(l *lab) error {
	last := map[string]int64{}
	return l.each(l.samples, func(s sample) error {
		series := s.series()
		if before, seen := last[series]; seen && s.millis <= before {
			return fmt.Errorf("%s: %d arrived after %d", series, s.millis, before)
		}
		last[series] = s.millis
		return nil
	})
}

// checkRefused asks whether the samples of `now` in the refused push arrived later.
func checkRefused(expected bool) func(*lab) error {
	return func(l *lab) error {
		refused := 0
		for _, r := range l.refused {
			if !r.has("__name__", "now") {
				continue
			}
			refused++
			again := slices.ContainsFunc(l.find("__name__", "now"), func(s sample) bool { return s.millis == r.millis })
			if again != expected {
				return fmt.Errorf("now at %d was in the push answered %d; arrived later: %v, expected %v",
					r.millis, l.refuse, again, expected)
			}
		}
		if refused == 0 {
			return errors.New("the first push held no sample of now")
		}
		return nil
	}
}
