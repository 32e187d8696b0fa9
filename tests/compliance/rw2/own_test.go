package rw2

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/compliance/remotewrite/sender"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// point is one sample of the first request, with its series' labels.
type point struct {
	labels map[string]string
	value  float64
	millis int64
	start  int64
}

// points returns the samples of one metric in the first request, in order.
func points(t *testing.T, result sender.ReceiverResult, name string) []point {
	t.Helper()
	if len(result.Requests) == 0 || result.Requests[0].RW2 == nil {
		t.Fatal("no request arrived")
	}
	request := result.Requests[0].RW2
	symbol := func(ref uint32) string {
		if int(ref) >= len(request.Symbols) {
			t.Fatalf("symbol %d of %d", ref, len(request.Symbols))
		}
		return request.Symbols[ref]
	}
	var found []point
	for _, series := range request.Timeseries {
		labels := map[string]string{}
		for i := 0; i+1 < len(series.LabelsRefs); i += 2 {
			labels[symbol(series.LabelsRefs[i])] = symbol(series.LabelsRefs[i+1])
		}
		if labels["__name__"] != name {
			continue
		}
		for _, s := range series.Samples {
			found = append(found, point{labels, s.Value, s.Timestamp, s.StartTimestamp})
		}
	}
	if len(found) == 0 {
		t.Fatalf("no sample of %s in the first request", name)
	}
	return found
}

// values are the numbers that must survive bit for bit, as a target writes them.
var values = []struct {
	name, text string
	value      float64
}{
	{"float", "123.45", 123.45},
	{"integer", "42", 42},
	{"zero", "0", 0},
	{"negative", "-15.5", -15.5},
	{"pos_inf", "+Inf", math.Inf(1)},
	{"neg_inf", "-Inf", math.Inf(-1)},
	{"nan", "NaN", math.NaN()},
	{"large", "1.7976931348623157e+308", math.MaxFloat64},
	{"small", "2.2250738585072014e-308", 2.2250738585072014e-308},
	{"scientific", "1.23e-4", 1.23e-4},
	{"precision", "0.123456789012345", 0.123456789012345},
}

// ownTests are what later versions of the official library ask (not to be had as modules), and a little more:
// several samples of one series in one scrape stay in order, every kind of float arrives bit for bit, and what goes
// with samples does.
func ownTests() []sender.Test {
	return []sender.Test{inOrder(), encoding(), startTimestamp(), exemplars(), metadata()}
}

func inOrder() sender.Test {
	// Ahead of the clock, because Prometheus does not send what is older than its own start.
	from := time.Now().Add(5 * time.Second)
	var text strings.Builder
	text.WriteString("# TYPE test_counter counter\n")
	for i, value := range []string{"101.13", "102.13", "103.13"} {
		at := from.Add(time.Duration(i) * 15 * time.Second)
		fmt.Fprintf(&text, "test_counter_total %s %.3f\n", value, float64(at.UnixMilli())/1000)
	}
	return sender.Test{
		Name: "samples in order", Description: "three samples of one series in one scrape arrive sorted", RFCLevel: sender.MustLevel,
		Version: remote.WriteV2MessageType, ScrapeData: text.String(),
		Validate: func(t *testing.T, result sender.ReceiverResult) {
			found := points(t, result, "test_counter_total")
			if len(found) < 3 {
				t.Fatalf("samples in the first request: %v, expected at least 3", found)
			}
			for i := 1; i < len(found); i++ {
				if found[i].millis < found[i-1].millis {
					t.Errorf("timestamp %d came after %d", found[i].millis, found[i-1].millis)
				}
			}
		},
	}
}

func encoding() sender.Test {
	var text strings.Builder
	test := sender.Test{
		Name: "encoding", Description: "11 kinds of value arrive exactly: decimals, the ends of the range, infinities, NaN", RFCLevel: sender.MustLevel,
		Version: remote.WriteV2MessageType,
	}
	for _, v := range values {
		fmt.Fprintf(&text, "# TYPE test_%s gauge\ntest_%s %s\n", v.name, v.name, v.text)
		test.ValidateCases = append(test.ValidateCases, sender.ValidateCase{
			Name: v.name, Description: v.text + " arrives exactly", RFCLevel: sender.MustLevel,
			Validate: func(t *testing.T, result sender.ReceiverResult) {
				got := points(t, result, "test_"+v.name)[0].value
				both := math.IsNaN(got) && math.IsNaN(v.value)
				if got != v.value && !both {
					t.Errorf("value %v, expected %v", got, v.value)
				}
			},
		})
	}
	test.ScrapeData = text.String()
	return test
}

func startTimestamp() sender.Test {
	created := time.Now().Add(-2 * time.Hour).UnixMilli()
	return sender.Test{
		Name: "start timestamp", Description: "a start timestamp, where there is one, is not later than its sample", RFCLevel: sender.ShouldLevel,
		Version: remote.WriteV2MessageType,
		ScrapeData: fmt.Sprintf("# TYPE test_counter counter\ntest_counter_total 101.13\ntest_counter_created %.3f\n",
			float64(created)/1000),
		Validate: func(t *testing.T, result sender.ReceiverResult) {
			for _, p := range points(t, result, "test_counter_total") {
				if p.start != 0 && p.start > p.millis {
					t.Errorf("start timestamp %d, sample at %d", p.start, p.millis)
				}
			}
		},
	}
}

// each calls f for every series of the metric in the first request, with what its references mean.
func each(t *testing.T, result sender.ReceiverResult, name string, f func(series writev2.TimeSeries, symbol func(uint32) string)) {
	t.Helper()
	if len(result.Requests) == 0 || result.Requests[0].RW2 == nil {
		t.Fatal("no request arrived")
	}
	request := result.Requests[0].RW2
	symbol := func(ref uint32) string {
		if int(ref) >= len(request.Symbols) {
			t.Fatalf("symbol %d of %d", ref, len(request.Symbols))
		}
		return request.Symbols[ref]
	}
	for _, series := range request.Timeseries {
		for i := 0; i+1 < len(series.LabelsRefs); i += 2 {
			if symbol(series.LabelsRefs[i]) == "__name__" && symbol(series.LabelsRefs[i+1]) == name {
				f(series, symbol)
			}
		}
	}
}

func exemplars() sender.Test {
	// Ahead of the clock, as the samples above.
	at := time.Now().Add(2 * time.Second).UnixMilli()
	return sender.Test{
		Name: "exemplars", Description: "an exemplar arrives with value, time and labels, in a series entry that has a sample", RFCLevel: sender.ShouldLevel,
		Version: remote.WriteV2MessageType,
		ScrapeData: fmt.Sprintf("# TYPE test_counter counter\ntest_counter_total 101.13 # {trace_id=\"abc\"} 0.25 %.3f\n",
			float64(at)/1000),
		Validate: func(t *testing.T, result sender.ReceiverResult) {
			found := 0
			each(t, result, "test_counter_total", func(series writev2.TimeSeries, symbol func(uint32) string) {
				for _, e := range series.Exemplars {
					found++
					if len(e.LabelsRefs) != 2 || symbol(e.LabelsRefs[0]) != "trace_id" || symbol(e.LabelsRefs[1]) != "abc" {
						t.Errorf("labels %v", e.LabelsRefs)
					}
					if e.Value != 0.25 || e.Timestamp != at {
						t.Errorf("value %v at %d, expected 0.25 at %d", e.Value, e.Timestamp, at)
					}
					if len(series.Samples) == 0 {
						t.Errorf("a series entry with an exemplar and no sample: receivers refuse it")
					}
				}
			})
			if found != 1 {
				t.Errorf("exemplars in the first request: %d, expected 1", found)
			}
		},
	}
}

func metadata() sender.Test {
	return sender.Test{
		Name: "metadata", Description: "every series of a family says type, help and unit", RFCLevel: sender.ShouldLevel,
		Version: remote.WriteV2MessageType,
		ScrapeData: "# TYPE test_time_seconds histogram\n# UNIT test_time_seconds seconds\n# HELP test_time_seconds Time \\\"taken\\\".\n" +
			"test_time_seconds_bucket{le=\"+Inf\"} 3\ntest_time_seconds_count 3\ntest_time_seconds_sum 1.5\n",
		Validate: func(t *testing.T, result sender.ReceiverResult) {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				found := 0
				each(t, result, "test_time_seconds"+suffix, func(series writev2.TimeSeries, symbol func(uint32) string) {
					found++
					m := series.Metadata
					if m.Type != writev2.Metadata_METRIC_TYPE_HISTOGRAM || symbol(m.HelpRef) != `Time "taken".` || symbol(m.UnitRef) != "seconds" {
						t.Errorf("%s: type %v, help %q, unit %q", suffix, m.Type, symbol(m.HelpRef), symbol(m.UnitRef))
					}
				})
				if found == 0 {
					t.Errorf("no %s in the first request", suffix)
				}
			}
		},
	}
}
