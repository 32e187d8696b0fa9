// Package report prints what the suites found: a line per case as it ends, totals, and a table for a README.
package report

import (
	"fmt"
	"strings"
)

// Result is one case's verdict. Known is a failure that is understood, intended, and checked to be exactly that.
type Result struct {
	Suite  string // "rw1" or "rw2"; with a "+", cases that upstream does not have in that suite
	Name   string
	Level  string // MUST, SHOULD; empty where the suite has no levels
	What   string // what the case asks for
	Reason string // of a failure, or of a known one
	State  State
}

// State is a verdict.
type State string

const (
	OK    State = "ok"
	Known State = "known"
	Fail  State = "FAIL"
)

// Line is the result on one line.
func (r Result) Line() string {
	return strings.TrimRight(fmt.Sprintf("%-5s %-4s %-6s %-38s %s", r.State, r.Suite, r.Level, r.Name, r.Reason), " ")
}

// Totals counts each suite's cases, one line a suite.
func Totals(results []Result) string {
	var b strings.Builder
	for _, suite := range suites(results) {
		var passed, known, failed int
		for _, r := range results {
			switch {
			case r.Suite != suite:
			case r.State == OK:
				passed++
			case r.State == Known:
				known++
			default:
				failed++
			}
		}
		fmt.Fprintf(&b, "%s: %d of %d passed, %d known, %d failed\n", suite, passed, passed+known+failed, known, failed)
	}
	return b.String()
}

// Table is the results as a markdown table. The cases of one test that is our own share a row.
func Table(results []Result) string {
	var b strings.Builder
	b.WriteString("| suite | case | level | asks for | result |\n|---|---|---|---|---|\n")
	for _, r := range folded(results) {
		verdict := string(r.State)
		if r.State == Known {
			verdict += ": " + r.Reason
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.Suite, r.Name, r.Level, cell(r.What), cell(verdict))
	}
	return b.String()
}

// folded keeps the first result of every own test, with FAIL if any of that test's cases failed.
func folded(results []Result) []Result {
	var rows []Result
	for _, r := range results {
		test, _, _ := strings.Cut(r.Name, "/")
		own := strings.HasSuffix(r.Suite, "+")
		if own {
			r.Name = test
		}
		last := len(rows) - 1
		if own && last >= 0 && rows[last].Suite == r.Suite && rows[last].Name == test {
			if r.State == Fail {
				rows[last].State = Fail
			}
			continue
		}
		rows = append(rows, r)
	}
	return rows
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func suites(results []Result) []string {
	var names []string
	for _, r := range results {
		if len(names) == 0 || names[len(names)-1] != r.Suite {
			names = append(names, r.Suite)
		}
	}
	return names
}
