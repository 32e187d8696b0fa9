package rw1

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"compliance/agent"
)

const (
	runTime  = 10 * time.Second
	exitTime = 90 * time.Second // Prometheus flushes for up to a minute
)

// lab is one case's scrape target and receiver, both on one port, and what they saw.
type lab struct {
	testCase
	mu       sync.Mutex
	scrapes  int
	samples  []sample      // accepted, in arrival order
	refused  []sample      // of the push that was refused
	headers  []http.Header // of every push
	errors   []error       // bodies that could not be decoded
	from, to time.Time     // before the sender's start, after its exit
}

func (l *lab) serveMetrics(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	scrape := l.scrapes
	l.scrapes++
	l.mu.Unlock()
	if l.static != "" {
		// No Content-Type: the server sniffs "text/plain; charset=utf-8", as a careless target would have it.
		io.WriteString(w, "\n"+l.static+"\n")
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		io.WriteString(w, l.expose(scrape))
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	packed := gzip.NewWriter(w)
	io.WriteString(packed, l.expose(scrape))
	packed.Close()
}

func (l *lab) servePush(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender broke off; what it did not deliver is not counted
	}
	samples, err := decode(body)
	if l.delay != nil {
		time.Sleep(l.delay())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.headers = append(l.headers, r.Header.Clone())
	if err != nil {
		l.errors = append(l.errors, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if l.refuse != 0 && l.refused == nil && len(samples) > 0 {
		l.refused = samples
		w.WriteHeader(l.refuse)
		return
	}
	l.samples = append(l.samples, samples...)
	w.WriteHeader(http.StatusNoContent)
}

// run starts the sender in dir, lets it work, interrupts it, and judges what arrived.
func (l *lab) run(dir string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", l.serveMetrics)
	mux.HandleFunc("/push", l.servePush)
	server := httptest.NewServer(mux)
	l.from = time.Now()
	err := l.runSender(dir, server.URL)
	l.to = time.Now()
	server.Close() // waits for pushes in progress
	if err == nil && len(l.errors) > 0 {
		err = l.errors[0]
	}
	return err
}

func (l *lab) runSender(dir, url string) error {
	command, err := agent.Command(dir, agent.Wiring{
		Target: strings.TrimPrefix(url, "http://"), Job: "test", Receiver: url + "/push",
		Message: "prometheus.WriteRequest",
	})
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	process := exec.Command(command[0], command[1:]...)
	process.Dir, process.Stdout, process.Stderr = dir, log, log
	if err := process.Start(); err != nil {
		return err
	}
	exit := make(chan error, 1)
	go func() { exit <- process.Wait() }()
	select {
	case err := <-exit:
		return fmt.Errorf("sender stopped by itself (%v), see %s", err, log.Name())
	case <-time.After(runTime):
	}
	if err := process.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	select {
	case err := <-exit:
		if err != nil {
			return fmt.Errorf("after SIGINT: %w, expected exit status 0, see %s", err, log.Name())
		}
		return nil
	case <-time.After(exitTime):
		return errors.Join(fmt.Errorf("still running %v after SIGINT", exitTime), process.Process.Kill())
	}
}
