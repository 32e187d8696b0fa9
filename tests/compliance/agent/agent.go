// Package agent starts the program under test: tidegate, or Prometheus' own agent in its place.
//
// Environment: TIDEGATE is tidegate's binary; COMPLIANCE_SENDER=prometheus-agent takes the program that PROMETHEUS
// names instead. Every start has a folder of its own for configuration, data and log; no port is bound but by
// Prometheus, which takes a free one.
package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Wiring is what one case gives the sender to work with.
type Wiring struct {
	Target    string // host:port of the scrape target
	Job       string
	Receiver  string   // URL of the receiver
	Message   string   // protobuf_message of the remote_write entry
	Protocols []string // scrape_protocols; none = the sender's default
	Extra     string   // further keys of the remote_write entry, one line, with a trailing comma
}

// Name of the sender that the environment chooses.
func Name() string {
	if name := os.Getenv("COMPLIANCE_SENDER"); name != "" {
		return name
	}
	return "tidegate"
}

// Command writes the sender's configuration into dir, an existing folder, and returns the program and its arguments.
func Command(dir string, w Wiring) ([]string, error) {
	config := filepath.Join(dir, "config.yml")
	text := configuration(w)
	var command []string
	switch Name() {
	case "tidegate":
		// The clock of the machine that runs the suite is believed, whether or not its kernel says "synchronised".
		text += fmt.Sprintf("tidegate:\n  listen_address: ''\n  clock: {trust: always}\n"+
			"  ring: {path: %q, size: 1MiB, segment_size: 64KiB}\n", filepath.Join(dir, "ring"))
		command = []string{os.Getenv("TIDEGATE"), "run", "--config", config}
	case "prometheus-agent":
		command = []string{os.Getenv("PROMETHEUS"), "--agent", "--config.file=" + config,
			"--storage.agent.path=" + filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0",
			"--enable-feature=st-storage"}
	default:
		return nil, fmt.Errorf("COMPLIANCE_SENDER is %q, expected tidegate or prometheus-agent", Name())
	}
	if command[0] == "" {
		return nil, fmt.Errorf("no program for %s: TIDEGATE or PROMETHEUS is not set", Name())
	}
	return command, os.WriteFile(config, []byte(text), 0o600)
}

func configuration(w Wiring) string {
	protocols := ""
	if len(w.Protocols) > 0 {
		protocols = "    scrape_protocols: [" + strings.Join(w.Protocols, ", ") + "]\n"
	}
	return fmt.Sprintf("global: {scrape_interval: 1s}\n"+
		"remote_write:\n  - {url: %q, %sprotobuf_message: %s}\n"+
		"scrape_configs:\n  - job_name: %s\n%s    static_configs: [{targets: [%q]}]\n",
		w.Receiver, w.Extra, w.Message, w.Job, protocols, w.Target)
}
