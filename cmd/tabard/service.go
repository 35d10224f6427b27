package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
)

type adminTokenShowCmd struct {
	adminFlags
	jsonFlag
}

func (adminTokenShowCmd) Help() string {
	return `Whoever has it can change everything: it is a secret. The service keeps it in its data directory, readable by its owner alone.

Example:

    curl -H "Authorization: Bearer $(tabard admin token show)" http://127.0.0.1:8081/subscriptions?api-version=2022-12-01

Words: the admin token is Tabard's own; Azure's tools send a token of the directory instead.`
}

func (c *adminTokenShowCmd) Run(s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	return printAdminToken(s, c.JSON, a.token)
}

type adminTokenRotateCmd struct {
	adminFlags
	jsonFlag
}

func (adminTokenRotateCmd) Help() string {
	return `Prints the new token. The ready file of the service is rewritten, so commands on its machine go on working; elsewhere TABARD_ADMIN_TOKEN must be changed.

Example:

    tabard admin token rotate

Words: the admin token is Tabard's own; Azure's tools send a token of the directory instead.`
}

func (c *adminTokenRotateCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	var answer struct {
		AdminToken string `json:"adminToken"`
	}
	if _, err := a.call(ctx, http.MethodPost, "/tabard/v1/adminToken/rotate", nil, nil, &answer); err != nil {
		return err
	}
	return printAdminToken(s, c.JSON, answer.AdminToken)
}

func printAdminToken(s *stdio, asJSON bool, token string) error {
	return s.print(asJSON, map[string]string{"adminToken": token}, func(w io.Writer) { row(w, token) })
}

const caWords = `

Words: SSL_CERT_FILE, NODE_EXTRA_CA_CERTS and so on are variables of the languages' own TLS libraries.`

type caPathCmd struct{ dataFlags }

func (caPathCmd) Help() string {
	return `Azure's SDKs send tokens over https only, so a local service needs a certificate that they trust. Without certificate files of your own the service signs one with an authority that it keeps in its data directory.

Example:

    curl --cacert "$(tabard ca path)" https://127.0.0.1:8080/api/health` + caWords
}

func (c *caPathCmd) Run(s *stdio) error {
	path, err := c.caFile()
	if err != nil {
		return err
	}
	return s.print(false, nil, func(w io.Writer) { row(w, path) })
}

// caFile is the certificate of the service's local authority.
func (f dataFlags) caFile() (string, error) {
	ready, err := f.ready()
	if err != nil {
		return "", err
	}
	if ready.CAFile == "" {
		return "", fail(exitNotFound, "its certificates come from --tls-cert; trust whoever signed those", "the service has no local authority")
	}
	return ready.CAFile, nil
}

type caTrustCmd struct{ dataFlags }

func (caTrustCmd) Help() string {
	return `Installs nothing: it prints lines to copy, each for the programs of one language. They hold for the shell in which they are set.

Example:

    tabard ca trust` + caWords
}

func (c *caTrustCmd) Run(s *stdio) error {
	path, err := c.caFile()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, trustLines, shellQuote(path))
	return err
}

const trustLines = `# Go and .NET on Linux, OpenSSL, Ruby, PHP, Python's standard library
export SSL_CERT_FILE=%[1]s
# Node.js, beside its own list
export NODE_EXTRA_CA_CERTS=%[1]s
# Python: requests, and the Azure SDKs that use it
export REQUESTS_CA_BUNDLE=%[1]s
# curl
export CURL_CA_BUNDLE=%[1]s
# Java: a trust store of its own takes the place of the JDK's
keytool -importcert -noprompt -alias tabard -file %[1]s -keystore tabard.p12 -storetype PKCS12 -storepass changeit
export JAVA_TOOL_OPTIONS='-Djavax.net.ssl.trustStore=tabard.p12 -Djavax.net.ssl.trustStorePassword=changeit'
`

// shellQuote makes one word of a path for a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

type versionCmd struct{ jsonFlag }

func (versionCmd) Help() string {
	return `Example:

    tabard version

Words: the commit is git's; "modified" says that the sources differed from it.`
}

// build is what the binary knows about itself.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
}

// ownBuild reads what the linker recorded.
func ownBuild() build {
	b := build{Version: "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Version, b.Go = info.Main.Version, info.GoVersion
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				b.Commit = setting.Value
			case "vcs.modified":
				b.Modified = setting.Value == "true"
			}
		}
	}
	return b
}

// String is one line for people.
func (b build) String() string {
	line := "tabard " + b.Version
	if b.Commit != "" {
		line += " commit " + b.Commit
	}
	if b.Modified {
		line += " modified"
	}
	return line + " " + b.Go
}

func (c *versionCmd) Run(s *stdio) error {
	b := ownBuild()
	return s.print(c.JSON, b, func(w io.Writer) { row(w, b.String()) })
}
