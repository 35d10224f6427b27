package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"
)

type vaultExplainCmd struct {
	instanceFlags
	jsonFlag
	SecretURI string `arg:"" name:"secret-uri" help:"As in the URL of an event handler, https://VAULT/secrets/NAME with or without a version, or the whole reference."`
}

func (vaultExplainCmd) Help() string {
	return `Reads the secret as the instance's managed identity does and says of each step what came of it: is the host one whose vaults are read, has the instance an identity, does it get a token and with which claims, does the vault answer, may the identity read, is the secret enabled and in its time, can its value stand in a URL. The value itself is not shown. Ends with 4 and what to change if a step fails.

Example:

    tabard vault explain https://hooks.localhost:8081/secrets/code --instance default` + vaultWords
}

// A step is one of reference.Step as the service tells it.
type step struct {
	Name    string          `json:"name"`
	Outcome string          `json:"outcome"` // ok, warning, failed or skipped
	Detail  string          `json:"detail,omitempty"`
	Code    string          `json:"code,omitempty"`
	Fix     string          `json:"fix,omitempty"`
	Claims  json.RawMessage `json:"claims,omitempty"`
}

// wholeReference is a reference as it stands in a URL template, from which people copy.
var wholeReference = regexp.MustCompile(`(?i)^\{?@Microsoft\.KeyVault\(SecretUri=(.*)\)\}?$`)

func (c *vaultExplainCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	uri := c.SecretURI
	if m := wholeReference.FindStringSubmatch(uri); m != nil {
		uri = m[1]
	}
	var answer struct {
		Value []step `json:"value"`
	}
	if _, err := a.call(ctx, http.MethodPost, path+"/explainSecretReference", apiVersion(armVersion), map[string]string{"secretUri": uri}, &answer); err != nil {
		return err
	}
	if err := s.print(c.JSON, answer, func(w io.Writer) { printSteps(w, answer.Value) }); err != nil {
		return err
	}
	for _, step := range answer.Value {
		if step.Outcome == "failed" {
			return fail(exitRefused, step.Fix, "%s: the secret cannot be used, because of its %s", step.Code, step.Name)
		}
	}
	return nil
}

// judgedClaims are those that a vault looks at.
var judgedClaims = []string{"aud", "iss", "tid", "oid", "appid", "azp", "nbf", "exp"}

func printSteps(w io.Writer, steps []step) {
	for _, step := range steps {
		mark := step.Outcome
		if mark == "failed" {
			mark = "FAILED"
		}
		row(w, step.Name, mark, printable(step.Detail))
		var claims map[string]any
		if json.Unmarshal(step.Claims, &claims) != nil {
			continue
		}
		for _, name := range judgedClaims {
			if value, ok := claims[name]; ok {
				row(w, "", "", printable(name+": "+claimText(name, value)))
			}
		}
	}
}

// claimText is a claim as people read it, times as such.
func claimText(name string, value any) string {
	if seconds, ok := value.(float64); ok && (name == "exp" || name == "nbf" || name == "iat") {
		return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
	}
	return fmt.Sprint(value)
}
