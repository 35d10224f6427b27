//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fabric

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks the open file exclusively without waiting. flock belongs to the open file, so a second
// opener in the same process is refused too.
func tryLock(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errHeld
		default:
			return err
		}
	}
}
