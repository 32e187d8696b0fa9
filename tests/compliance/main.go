// Command compliance runs both remote write suites against one sender and prints a line per case.
//
// Exit status: 0, every case passed or failed in the one way that is known and intended; 1, a case failed; 2, the suites
// could not run. scripts/compliance calls this; its header tells the environment.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"

	"compliance/report"
	"compliance/rw1"
)

func main() {
	table := flag.Bool("table", false, "print a markdown table instead of lines")
	suite := flag.String("suite", "", "rw1 or rw2 (default: both)")
	only := flag.String("case", "", "one case of suite rw1, by name")
	flag.Parse()
	results, err := run(os.Getenv("COMPLIANCE_WORK"), *suite, *only, *table)
	if err != nil {
		fmt.Fprintln(os.Stderr, "compliance:", err)
		os.Exit(2)
	}
	if *table {
		fmt.Print(report.Table(results))
	} else {
		fmt.Print(report.Totals(results))
	}
	for _, r := range results {
		if r.State == report.Fail {
			os.Exit(1)
		}
	}
}

func run(work, suite, only string, quiet bool) ([]report.Result, error) {
	var mutex sync.Mutex
	done := func(r report.Result) {
		mutex.Lock()
		defer mutex.Unlock()
		if !quiet {
			fmt.Println(r.Line())
		} else if r.State == report.Fail {
			fmt.Fprintln(os.Stderr, r.Line())
		}
	}
	var results []report.Result
	if suite == "" || suite == "rw1" {
		found, err := rw1.Run(work, only, done)
		if err != nil {
			return nil, err
		}
		results = append(results, found...)
	}
	if (suite == "" || suite == "rw2") && only == "" {
		found, err := runLibrary(done)
		if err != nil {
			return nil, err
		}
		results = append(results, found...)
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("no case matches --suite %q --case %q", suite, only)
	}
	return results, nil
}

// event is a line of `go test -json`.
type event struct{ Action, Test, Key, Value, Output string }

// runLibrary runs package rw2 and reads its events: a result for each subtest that carries a level.
func runLibrary(done func(report.Result)) ([]report.Result, error) {
	command := exec.Command("go", "test", "-json", "-count=1", "-timeout=120s", "./rw2")
	command.Stderr = os.Stderr
	pipe, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	collect := library{cases: map[string]*report.Result{}, done: done}
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("go test: %q: %w", lines.Text(), err)
		}
		collect.take(e)
	}
	failed := command.Wait()
	if len(collect.results) == 0 {
		return nil, fmt.Errorf("go test ran no case (%v):\n%s", failed, collect.other)
	}
	for _, r := range collect.results {
		if r.State == report.Fail {
			failed = nil // told by a case
		}
	}
	if failed != nil {
		return nil, fmt.Errorf("go test: %w:\n%s", failed, collect.other)
	}
	return collect.results, lines.Err()
}

type library struct {
	cases   map[string]*report.Result
	results []report.Result
	other   string
	done    func(report.Result)
}

func (l *library) take(e event) {
	// TestUpstream/SENDER/TEST/rw2/SUBTEST
	parts := strings.SplitN(e.Test, "/", 5)
	if len(parts) < 5 {
		if e.Action == "output" || e.Action == "build-output" {
			l.other += e.Output
		}
		return
	}
	r := l.cases[e.Test]
	if r == nil {
		r = &report.Result{Suite: "rw2", Name: name(parts[2], parts[4])}
		if parts[0] == "TestOwn" {
			r.Suite = "rw2+"
		}
		l.cases[e.Test] = r
	}
	switch e.Action {
	case "attr":
		if e.Key == "rfcLevel" {
			r.Level = e.Value
		} else if e.Key == "description" {
			r.What = e.Value
		}
	case "output":
		r.Reason += reason(e.Output)
	case "pass", "fail", "skip":
		r.State, r.Reason = report.Fail, strings.Join(strings.Fields(r.Reason), " ")
		if e.Action == "pass" {
			r.State, r.Reason = report.OK, ""
		}
		l.results = append(l.results, *r)
		l.done(*r)
	}
}

func name(test, subtest string) string {
	return strings.ReplaceAll(test+"/"+strings.TrimPrefix(subtest, "_"), "_", " ")
}

// reason keeps what a failure says and drops the frame around it.
func reason(output string) string {
	text := strings.TrimSpace(output)
	for _, frame := range []string{"===", "---", "Error Trace:", "Test:", "/"} {
		if strings.HasPrefix(text, frame) {
			return ""
		}
	}
	return text + " "
}
