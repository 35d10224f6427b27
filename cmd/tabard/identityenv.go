package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
)

type identityEnvCmd struct {
	identityFlags
	jsonFlag
	Workload string `help:"Variables of workload identity instead: the program presents the token in this file, of an issuer that 'identity federated create' trusts." placeholder:"TOKEN_FILE"`
	Rotate   bool   `help:"Make a new secret first; programs with the old one are refused from then on."`
}

func (identityEnvCmd) Help() string {
	return `Prints KEY=VALUE lines: the variables with which a program on this machine gets tokens of the user-assigned identity through DefaultAzureCredential or ManagedIdentityCredential, in any language and without a change of its code. IDENTITY_HEADER is a secret that belongs to this identity alone.

With --workload they are those of WorkloadIdentityCredential, which talks to the token endpoint over https: programs trust the service's own authority through SSL_CERT_FILE and its like, and need disableInstanceDiscovery among their credential's options.

Example:

    tabard identity create worker
    env $(tabard identity env worker) node worker.js
    tabard identity env worker --workload ./token` + identityWords
}

func (c *identityEnvCmd) Run(ctx context.Context, s *stdio) error {
	a, r, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	file := c.Workload
	if file != "" { // the program may run elsewhere
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
	}
	want := struct {
		Rotate             bool   `json:"rotate"`
		FederatedTokenFile string `json:"federatedTokenFile"`
	}{c.Rotate, file}
	var answer struct {
		Environment map[string]string `json:"environment"`
	}
	if _, err := a.call(ctx, http.MethodPost, idPath(r.ID)+"/tabardEnvironment", nil, want, &answer); err != nil {
		return err
	}
	if c.JSON {
		return s.print(true, answer.Environment, nil)
	}
	for _, name := range slices.Sorted(maps.Keys(answer.Environment)) {
		fmt.Fprintf(s.out, "%s=%s\n", name, answer.Environment[name])
	}
	return nil
}
