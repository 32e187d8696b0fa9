// Package rw2 runs the official library of remote write 2.0 sender tests, pinned in go.mod, against the sender that the
// environment chooses (package agent), and beside it a few cases of our own in the library's frame.
//
// The library starts a scrape target and a receiver per test, stops the sender with SIGTERM once the
// receiver has what it asked for (mostly one request), and judges the first request.
package rw2

import (
	"context"
	"os"
	"testing"

	"github.com/prometheus/compliance/remotewrite/sender"

	"compliance/agent"
)

type underTest struct{}

// Name is the first part of every test's name.
func (underTest) Name() string { return agent.Name() }

// Run starts the sender and stops it when the test has seen enough.
func (underTest) Run(ctx context.Context, options sender.Options) error {
	dir, err := os.MkdirTemp(os.Getenv("COMPLIANCE_WORK"), "rw2-")
	if err != nil {
		return err
	}
	command, err := agent.Command(dir, agent.Wiring{
		Target: options.ScrapeTargetHostPort, Job: options.ScrapeTargetJobName,
		Receiver: options.RemoteWriteEndpointURL, Message: string(options.RemoteWriteMessage),
		Protocols: []string{"PrometheusProto", "OpenMetricsText1.0.0", "PrometheusText0.0.4"},
		Extra:     "send_exemplars: true, metadata_config: {send: true}, queue_config: {retry_on_http_429: true}, ",
	})
	if err != nil {
		return err
	}
	return sender.RunCommand(ctx, dir, nil, command[0], command[1:]...)
}

func TestUpstream(t *testing.T) { sender.RunTests(t, underTest{}, sender.ComplianceTests()) }

func TestOwn(t *testing.T) { sender.RunTests(t, underTest{}, ownTests()) }
