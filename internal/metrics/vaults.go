package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	vaultCalls  = desc("vault_calls_total", "Calls of the embedded key vaults by operation, HTTP status and who asked: a client, or the service itself.", "operation", "status", "caller")
	vaults      = desc("vaults", "Embedded key vaults, deleted ones that can be recovered included.")
	versions    = desc("secret_versions", "Versions of secrets in the embedded key vaults.")
	secrets     = desc("referred_secrets", "Secrets that handlers' URLs refer to: held have a value, unresolved none.", "state")
	failing     = desc("referred_secrets_failing", "Secrets that handlers' URLs refer to and that could not be read the last time; some have an older value all the same.")
	oldestValue = desc("referred_secret_oldest_confirmation_timestamp_seconds", "When the vault confirmed the value that was confirmed longest ago.")
)

func (c *collector) collectVaults(out chan<- prometheus.Metric, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	if c.VaultCalls != nil {
		for _, n := range c.VaultCalls() {
			caller := "client"
			if n.InProcess {
				caller = "service"
			}
			out <- prometheus.MustNewConstMetric(vaultCalls, prometheus.CounterValue, float64(n.Calls), n.Operation, strconv.Itoa(n.Status), caller)
		}
	}
	if c.VaultExtent != nil {
		inAll, secrets := c.VaultExtent()
		gauge(vaults, float64(inAll))
		gauge(versions, float64(secrets))
	}
	if c.Secrets != nil {
		s := c.Secrets()
		gauge(secrets, float64(s.Held), "held")
		gauge(secrets, float64(s.Unresolved), "unresolved")
		gauge(failing, float64(s.Failing))
		if !s.Oldest.IsZero() {
			gauge(oldestValue, float64(s.Oldest.Unix()))
		}
	}
}
