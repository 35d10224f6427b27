package fabric

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// An InUseError reports that another process uses the data directory or the external NATS.
type InUseError struct {
	// Resource is what is in use, in words.
	Resource string
	// Holder names the process that uses it, as far as it is known; else "".
	Holder string
}

func (e *InUseError) Error() string {
	if e.Holder == "" {
		return e.Resource + " is in use by another process"
	}
	return fmt.Sprintf("%s is in use by another process (%s)", e.Resource, e.Holder)
}

// errHeld is what tryLock returns if another open file holds the lock.
var errHeld = errors.New("lock is held")

// lockName is the file whose lock guards the data directory. The file stays when the lock goes: removing
// it would let two processes hold locks on two files of one name.
const lockName = "tabard.lock"

// A dirLock holds a data directory for this process. The system releases it when the process ends,
// however it ends.
type dirLock struct{ file *os.File }

func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, lockName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("fabric: lock of the data directory: %w", err)
	}
	if err := tryLock(file); err != nil {
		defer file.Close()
		if errors.Is(err, errHeld) {
			return nil, &InUseError{Resource: "data directory " + dir, Holder: readHolder(file)}
		}
		return nil, fmt.Errorf("fabric: lock %s: %w", path, err)
	}
	// The content only serves the error message above, so a failure to write it is none of ours.
	if file.Truncate(0) == nil {
		_, _ = file.WriteAt([]byte(holderName()+"\n"), 0)
	}
	return &dirLock{file}, nil
}

func (l *dirLock) unlock() {
	_ = l.file.Truncate(0)
	_ = l.file.Close() // closing the only descriptor releases the lock
}

func readHolder(file *os.File) string {
	text, _ := io.ReadAll(io.NewSectionReader(file, 0, 512))
	return strings.TrimSpace(string(text))
}

// holderName says where this process runs.
func holderName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("process %d on %s", os.Getpid(), host)
}
