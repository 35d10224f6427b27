package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
	"unicode/utf8"
)

// maxSecretValue is Azure's bound on a value, in bytes.
const maxSecretValue = 25_600

type secretSetCmd struct {
	vaultFlags
	jsonFlag
	Name        string            `arg:"" help:"1 to 127 letters, digits and dashes."`
	File        string            `help:"File that holds the value; - is stdin." default:"-" placeholder:"FILE"`
	Exact       bool              `help:"Keep a line end at the end of the value."`
	Disabled    bool              `help:"Store the version disabled: nobody can read its value."`
	NotBefore   time.Time         `help:"Note from when on the version is meant to be used; forbids nothing." format:"2006-01-02T15:04:05Z07:00" placeholder:"RFC3339"`
	Expires     time.Time         `help:"Note until when the version is meant to be used; forbids nothing." format:"2006-01-02T15:04:05Z07:00" placeholder:"RFC3339"`
	ContentType string            `help:"Note what the value is." placeholder:"TEXT"`
	Tag         map[string]string `help:"Tag, repeatable." placeholder:"NAME=VALUE" mapsep:"none"`
}

func (secretSetCmd) Help() string {
	return `The value comes from stdin or a file, never from the command line, where process lists and shell histories would show it; it is not printed. One line end at its end, as editors and echo put it there, is not taken for a part of it. Event handlers whose URLs refer to the secret without a version get the new value with the next event.

Example:

    tabard secret set hooks code --file code.txt
    openssl rand -hex 32 | tabard secret set hooks code --file -
    tabard secret set hooks code --expires 2030-01-01T00:00:00Z < code.txt` + secretWords
}

func (c *secretSetCmd) Run(ctx context.Context, s *stdio) error {
	p, err := c.dataPlane(ctx, s)
	if err != nil {
		return err
	}
	value, err := c.value(s)
	if err != nil {
		return err
	}
	attributes := map[string]any{"enabled": !c.Disabled}
	for name, at := range map[string]time.Time{"nbf": c.NotBefore, "exp": c.Expires} {
		if !at.IsZero() {
			attributes[name] = at.Unix()
		}
	}
	body := map[string]any{"value": value, "attributes": attributes}
	if c.ContentType != "" {
		body["contentType"] = c.ContentType
	}
	if len(c.Tag) > 0 {
		body["tags"] = c.Tag
	}
	raw, err := p.ask(ctx, http.MethodPut, secretPath(c.Name), body)
	if err != nil {
		return err
	}
	return printSecret(s, c.JSON, false, raw)
}

// value reads what is to be stored. No error repeats any of it.
func (c *secretSetCmd) value(s *stdio) (string, error) {
	from := s.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return "", err
		}
		defer f.Close()
		from = f
	} else if isTerminal(s.in) {
		s.note("type or paste the value, which the terminal shows, and end it with Ctrl-D on a line of its own")
	}
	value, err := io.ReadAll(io.LimitReader(from, maxSecretValue+3)) // a line end and one byte too many
	if err != nil {
		return "", fmt.Errorf("read the value: %w", err)
	}
	if !c.Exact {
		if v, ok := bytes.CutSuffix(value, []byte("\n")); ok {
			value = bytes.TrimSuffix(v, []byte("\r"))
		}
	}
	switch {
	case len(value) == 0:
		return "", fail(exitUsage, "give it on stdin or by --file", "the value is empty")
	case len(value) > maxSecretValue:
		return "", fail(exitUsage, "", "the value is longer than %d bytes", maxSecretValue)
	case !utf8.Valid(value):
		return "", fail(exitUsage, "encode it, for example with base64", "the value is not UTF-8 text, which is what vaults hold")
	}
	return string(value), nil
}

// isTerminal tells whether somebody types what the reader reads.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Validate finds a version whose times contradict each other.
func (c *secretSetCmd) Validate() error {
	if !c.NotBefore.IsZero() && !c.Expires.IsZero() && !c.NotBefore.Before(c.Expires) {
		return errors.New("--not-before must come before --expires")
	}
	return nil
}
