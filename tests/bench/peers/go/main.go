// Throughput of Prometheus' own text parser on captured bodies, as its scraper uses it: every series' labels are taken once, then
// found again by the bytes of the line. Lines of `name MB/s samples/s`.
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

const (
	runs     = 5
	runBytes = 24 << 20
)

func bodies(path string) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if data, err = io.ReadAll(unpacked); err != nil {
			return nil, err
		}
	}
	var out [][]byte
	for len(data) > 0 {
		head, rest, found := bytes.Cut(data, []byte("\n"))
		words := bytes.Fields(head)
		if !found || len(words) == 0 {
			break
		}
		length, err := strconv.Atoi(string(words[len(words)-1]))
		if err != nil || length > len(rest) {
			return nil, fmt.Errorf("%s: not the header of a scrape: %q", path, head)
		}
		out = append(out, rest[:length])
		data = bytes.TrimPrefix(rest[length:], []byte("\n"))
	}
	return out, nil
}

// scrape parses one body; with a cache it also looks every series up, as a scrape loop does.
func scrape(body []byte, symbols *labels.SymbolTable, cache map[string]uint64) (int, error) {
	parser := textparse.NewPromParser(body, symbols, false)
	samples := 0
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return samples, nil
		}
		if err != nil {
			return samples, err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		series, _, _ := parser.Series()
		samples++
		if cache == nil {
			continue
		}
		if _, known := cache[string(series)]; !known {
			var all labels.Labels
			parser.Labels(&all)
			cache[string(series)] = all.Hash()
		}
	}
}

func measure(name string, all [][]byte, cache map[string]uint64) error {
	symbols := labels.NewSymbolTable()
	size, samples := 0, 0
	for _, body := range all {
		n, err := scrape(body, symbols, cache)
		if err != nil {
			return err
		}
		size += len(body)
		samples += n
	}
	rounds := runBytes/size + 1
	best := time.Duration(1<<63 - 1)
	for range runs {
		start := time.Now()
		for range rounds {
			for _, body := range all {
				if _, err := scrape(body, symbols, cache); err != nil {
					return err
				}
			}
		}
		best = min(best, time.Since(start))
	}
	perSecond := float64(rounds) / best.Seconds()
	fmt.Printf("%s %.1f %.0f\n", name, float64(size)*perSecond/1e6, float64(samples)*perSecond)
	return nil
}

func main() {
	for _, path := range os.Args[1:] {
		all, err := bodies(path)
		if err == nil {
			fmt.Println("file", path)
			err = measure("prometheus-parser", all, nil)
		}
		if err == nil {
			err = measure("prometheus-parser+cache", all, map[string]uint64{})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
