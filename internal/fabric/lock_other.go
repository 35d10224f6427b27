//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package fabric

import (
	"errors"
	"fmt"
	"os"
)

// tryLock refuses: without a lock that dies with its process, two processes could use one data directory
// and lose each other's writes.
func tryLock(*os.File) error {
	return fmt.Errorf("this system has no file lock we know of: %w", errors.ErrUnsupported)
}
