// Crosscheck tells whether a program would compile for other systems: it checks the types of all its packages from
// source, which takes a fraction of the time of compiling them.
//
//	crosscheck DIR PACKAGE OS/ARCH ...
package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: crosscheck DIR PACKAGE OS/ARCH ...")
		os.Exit(2)
	}
	for _, platform := range os.Args[3:] {
		if err := check(os.Args[1], os.Args[2], platform); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", platform, err)
			os.Exit(1)
		}
	}
}

func check(dir, program, platform string) error {
	system, processor, _ := strings.Cut(platform, "/")
	found, err := packages.Load(&packages.Config{
		Mode: packages.LoadAllSyntax, // NeedDeps: the types of the dependencies come from their source as well
		Dir:  dir,
		Env:  append(os.Environ(), "GOOS="+system, "GOARCH="+processor, "CGO_ENABLED=0"),
	}, program)
	if err != nil {
		return err
	}
	if n := packages.PrintErrors(found); n > 0 {
		return fmt.Errorf("%d errors", n)
	}
	return nil
}
