// Package rw1 asks a sender of remote write 1.0 what the official suite of that protocol asked: 19 cases, our own code.
//
// Every case has a process of the sender, a port that is scrape target and receiver in one, and a folder of its own; all
// run at the same time, 10 seconds each. Then the sender gets SIGINT and must exit with status 0, and what
// arrived is judged: the bits of every value, in arrival order.
package rw1

import (
	"cmp"
	"os"
	"path/filepath"
	"sync"

	"compliance/report"
)

// Suite is this package's name in reports.
const Suite = "rw1"

// Run runs the cases of that name (all for ""), calls done as each ends, and returns the results in the suite's order.
func Run(work, only string, done func(report.Result)) ([]report.Result, error) {
	var chosen []testCase
	for _, c := range append(append([]testCase{}, cases...), untyped) {
		if only == "" || only == c.name {
			chosen = append(chosen, c)
		}
	}
	results := make([]report.Result, len(chosen))
	var group sync.WaitGroup
	for i, c := range chosen {
		dir := filepath.Join(work, Suite, c.name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		group.Add(1)
		go func() {
			defer group.Done()
			l := &lab{testCase: c}
			results[i] = l.judge(l.run(dir))
			done(results[i])
		}()
	}
	group.Wait()
	return results, nil
}

func (l *lab) judge(err error) report.Result {
	r := report.Result{Suite: cmp.Or(l.suite, Suite), Name: l.name, What: l.what, State: report.OK}
	ran := err == nil
	if ran {
		err = l.check(l)
	}
	if err != nil {
		r.State, r.Reason = report.Fail, err.Error()
	}
	if err != nil && ran && l.known != nil && l.known(l) == nil {
		r.State, r.Reason = report.Known, l.knownWhy
	}
	return r
}
