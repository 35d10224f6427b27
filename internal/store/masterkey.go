package store

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// masterKeySize is that of AES-256.
const masterKeySize = 32

// A MasterKey says where the key is that seals the data key. Its String never shows the key.
type MasterKey struct {
	path    string
	value   string
	transit *TransitKey
}

// MasterKeyFile is a file with 32 bytes as base64 text. It is created 0600 if it is missing and nothing was
// stored yet. A file that others may read is refused.
func MasterKeyFile(path string) MasterKey { return MasterKey{path: path} }

// MasterKeyValue is the key itself, 32 bytes as base64 text, as from an environment variable.
func MasterKeyValue(text string) MasterKey { return MasterKey{value: text} }

// String says where the key comes from.
func (k MasterKey) String() string {
	switch {
	case k.transit != nil:
		return k.transit.URI
	case k.path != "":
		return "file " + k.path
	case k.value != "":
		return "given as a value"
	}
	return "none"
}

// GoString is String, so that no way of formatting shows the key.
func (k MasterKey) GoString() string { return k.String() }

// open reads the key. create allows a missing file to be made.
func (k MasterKey) open(create bool) (tink.AEAD, error) {
	text := k.value
	switch {
	case k.transit != nil:
		a, err := k.transit.open()
		if err != nil {
			return nil, fmt.Errorf("master key (%s): %w", k, err)
		}
		return a, nil
	case k.path != "":
		var err error
		if text, err = readKeyFile(k.path, create); err != nil {
			return nil, err
		}
	case k.value == "":
		return nil, errors.New("no master key is configured: name a file or give a value")
	}
	raw, err := decodeKey(text)
	if err != nil {
		return nil, fmt.Errorf("master key (%s): %w", k, err)
	}
	return subtle.NewAESGCM(raw)
}

// Seal encrypts a small secret of somebody else, such as the key of a backup, under the master key. use says what for;
// it opens for that only.
func (k MasterKey) Seal(secret []byte, use string) ([]byte, error) {
	master, err := k.open(false)
	if err != nil {
		return nil, err
	}
	return master.Encrypt(secret, sealContext(use))
}

// Unseal decrypts what Seal returned. ErrWrongMasterKey: this is not the key that sealed it.
func (k MasterKey) Unseal(sealed []byte, use string) ([]byte, error) {
	master, err := k.open(false)
	if err != nil {
		return nil, err
	}
	secret, err := master.Decrypt(sealed, sealContext(use))
	if err := failure(master); err != nil {
		return nil, fmt.Errorf("master key (%s): %w", k, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", ErrWrongMasterKey, k)
	}
	return secret, nil
}

func sealContext(use string) []byte { return append([]byte("tabard sealed secret 1\n"), use...) }

// decodeKey takes base64 in both alphabets, padded or not, with white space around it. Its errors do not
// repeat the text.
func decodeKey(text string) ([]byte, error) {
	text = strings.TrimRight(strings.TrimSpace(text), "=")
	text = strings.NewReplacer("-", "+", "_", "/").Replace(text)
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errors.New("is not base64 text")
	}
	if len(raw) != masterKeySize {
		return nil, fmt.Errorf("has %d bytes, want %d", len(raw), masterKeySize)
	}
	return raw, nil
}

func readKeyFile(path string, create bool) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !create {
			return "", fmt.Errorf("master key file %s does not exist, but data sealed with it does: restore the file (a new key could not open the data)", path)
		}
		return createKeyFile(path)
	}
	if err != nil {
		return "", fmt.Errorf("master key file: %w", err)
	}
	// Windows has access lists instead; its mode bits say nothing.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return "", fmt.Errorf("master key file %s has mode %04o, so others may read it: chmod 600 %s", path, mode, path)
	}
	if info.Size() > 1<<10 {
		return "", fmt.Errorf("master key file %s has %d bytes, want one line of base64 text", path, info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("master key file: %w", err)
	}
	return string(text), nil
}

// createKeyFile writes a new key so that the file is either whole or not there, whenever the process dies.
// That no two processes do so at once is due to the lock of the data directory.
func createKeyFile(path string) (text string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("new master key file: %w", err)
		}
	}()
	raw := make([]byte, masterKeySize)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	text = base64.StdEncoding.EncodeToString(raw) + "\n"
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // CreateTemp makes it 0600
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name()) // fails once it was renamed, as it should
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return "", err
	}
	return text, syncDir(dir)
}

// syncDir makes a rename in dir durable. Windows does so by itself and cannot sync a directory.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
