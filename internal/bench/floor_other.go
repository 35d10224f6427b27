//go:build !linux

package bench

import (
	"errors"
	"os"
)

// Floor needs epoll.
func Floor(*os.File, func(addr string)) error {
	return errors.New("the floor server needs Linux")
}
