package rw1

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"

	"github.com/golang/snappy"
)

// label is one name and value, in the order they were sent.
type label struct{ name, value string }

// sample is one value of one series as it arrived. value is kept as bits, because the stale marker is a NaN.
type sample struct {
	labels []label
	bits   uint64
	millis int64
}

func (s sample) value() float64 { return math.Float64frombits(s.bits) }

// get returns the value of the label, and whether the series carries it.
func (s sample) get(name string) (string, bool) {
	for _, l := range s.labels {
		if l.name == name {
			return l.value, true
		}
	}
	return "", false
}

// has is true when the series carries every one of the labels, given as name, value, name, value...
func (s sample) has(pairs ...string) bool {
	for i := 0; i+1 < len(pairs); i += 2 {
		if value, ok := s.get(pairs[i]); !ok || value != pairs[i+1] {
			return false
		}
	}
	return true
}

func (s sample) series() string {
	var b strings.Builder
	for _, l := range s.labels {
		b.WriteString(l.name + "=" + l.value + ",")
	}
	return b.String()
}

var errWire = errors.New("request body is not a valid prometheus.WriteRequest")

// decode reads a request body: a snappy block of one prometheus.WriteRequest.
func decode(body []byte) ([]sample, error) {
	message, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, err
	}
	var samples []sample
	err = fields(message, func(number uint64, series []byte, _ uint64) error {
		if number != 1 {
			return nil // metadata
		}
		of, err := decodeSeries(series)
		samples = append(samples, of...)
		return err
	})
	return samples, err
}

func decodeSeries(series []byte) ([]sample, error) {
	var labels []label
	var samples []sample
	err := fields(series, func(number uint64, data []byte, _ uint64) error {
		switch number {
		case 1:
			var l label
			labels = append(labels, l)
			return fields(data, func(number uint64, text []byte, _ uint64) error {
				if number == 1 {
					labels[len(labels)-1].name = string(text)
				} else if number == 2 {
					labels[len(labels)-1].value = string(text)
				}
				return nil
			})
		case 2:
			var s sample
			err := fields(data, func(number uint64, _ []byte, value uint64) error {
				if number == 1 {
					s.bits = value
				} else if number == 2 {
					s.millis = int64(value)
				}
				return nil
			})
			samples = append(samples, s)
			return err
		}
		return nil
	})
	for i := range samples {
		samples[i].labels = labels
	}
	return samples, err
}

// fields walks one protobuf message: each field's number with its bytes (length-delimited) or its bits (all others).
func fields(message []byte, visit func(number uint64, data []byte, value uint64) error) error {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return errWire
		}
		message = message[n:]
		var data []byte
		var value uint64
		switch tag & 7 {
		case 0:
			if value, n = binary.Uvarint(message); n <= 0 {
				return errWire
			}
		case 1:
			if n = 8; len(message) < n {
				return errWire
			}
			value = binary.LittleEndian.Uint64(message)
		case 2:
			size, prefix := binary.Uvarint(message)
			if prefix <= 0 || size > uint64(len(message)-prefix) {
				return errWire
			}
			n = prefix + int(size)
			data = message[prefix:n]
		case 5:
			if n = 4; len(message) < n {
				return errWire
			}
			value = uint64(binary.LittleEndian.Uint32(message))
		default:
			return errWire
		}
		message = message[n:]
		if err := visit(tag>>3, data, value); err != nil {
			return err
		}
	}
	return nil
}
