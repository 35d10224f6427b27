package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// stdio is where a command reads and writes: results to out, everything else to err.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	// bare makes a command that another one runs heed its arguments alone, not the TABARD_ variables around it.
	bare bool
}

// print writes the result of a command: v as one JSON object, or human's lines with their tabs aligned.
func (s *stdio) print(asJSON bool, v any, human func(w io.Writer)) error {
	if asJSON {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	tw := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	human(tw)
	return tw.Flush()
}

// note tells the person at the terminal something that is not a result.
func (s *stdio) note(format string, args ...any) { fmt.Fprintf(s.err, format+"\n", args...) }

// row writes one line of aligned columns.
func row(w io.Writer, columns ...string) { fmt.Fprintln(w, strings.Join(columns, "\t")) }

// orDash stands for an absent value in a table.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
