package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"tabard"
	"tabard/internal/backup"
)

const backupWords = `

Words: recipients and identities are those of age (age-encryption.org), whose own program opens the file too; Azure has no backup of a Web PubSub resource.`

type backupCreateCmd struct {
	adminFlags
	jsonFlag
	Out            string   `help:"File to write, 0600; it must not exist." required:"" placeholder:"FILE"`
	Recipient      []string `help:"Age recipient (age1…) who can open it. Repeatable." placeholder:"AGE1" xor:"seal"`
	PassphraseFile string   `help:"File with the passphrase that opens it; - is stdin." placeholder:"FILE" xor:"seal"`
}

func (backupCreateCmd) Help() string {
	return `Writes everything that the running service remembers, as of one moment and while it goes on serving: instances and their keys, hubs, the directory, role assignments, vaults with all versions of their secrets, signing keys, the audit log, the local authority and the admin token. Not in it are settings of the process (flags, --config) and the master key.

Without --recipient and --passphrase-file the file is sealed under the service's master key, which then is all that opens it. A passphrase does not leave this machine.

Example:

    tabard backup create --out tabard.backup
    tabard backup create --out tabard.backup --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
    tabard backup create --out tabard.backup --passphrase-file passphrase.txt` + backupWords
}

func (c *backupCreateCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	passphrase, err := readPassphrase(s, c.PassphraseFile)
	if err != nil {
		return err
	}
	var once backup.Once
	recipients := c.Recipient
	if passphrase != "" {
		if once, err = backup.NewOnce(); err != nil {
			return err
		}
		recipients = []string{once.Recipient()}
	}
	out, err := os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fail(exitUsage, "a backup is never written over; choose another name", "%s exists", c.Out)
	}
	if err != nil {
		return err
	}
	size, err := c.write(ctx, a, out, recipients, once, passphrase)
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(c.Out)) // half a backup is none
	}
	return s.print(c.JSON, map[string]any{"file": c.Out, "bytes": size}, func(w io.Writer) { row(w, fmt.Sprintf("%s: %d bytes", c.Out, size)) })
}

func (c *backupCreateCmd) write(ctx context.Context, a *admin, out *os.File, recipients []string, once backup.Once, passphrase string) (size int64, err error) {
	resp, err := a.do(ctx, http.MethodPost, "/tabard/v1/backup", nil, map[string]any{"recipients": recipients}, "application/octet-stream")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if passphrase != "" {
		err = once.Reseal(out, resp.Body, passphrase)
	} else {
		_, err = io.Copy(out, resp.Body)
	}
	if err != nil {
		return 0, fmt.Errorf("the backup broke off: %w", err)
	}
	if err := out.Sync(); err != nil {
		return 0, err
	}
	info, err := out.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

type backupRestoreCmd struct {
	jsonFlag
	File           string `arg:"" help:"The backup; - is stdin."`
	Data           string `help:"Data directory to make; it must be missing or empty." required:"" env:"TABARD_DATA" placeholder:"DIR"`
	MasterKeyFile  string `help:"File of the restored service's master key (default DATA/master.key, made now); TABARD_MASTER_KEY gives the key itself. It opens the backup too, if that is sealed under it." env:"TABARD_MASTER_KEY_FILE" placeholder:"FILE"`
	MasterKeyURI   string `name:"master-key-uri" help:"Where the restored service's master key is instead: file:///PATH, env://NAME or hcvault://HOST/MOUNT/keys/NAME." env:"TABARD_MASTER_KEY_URI" placeholder:"URI"`
	MasterKeyToken string `name:"master-key-token-file" help:"File with the token for hcvault; VAULT_TOKEN gives the token itself." env:"TABARD_MASTER_KEY_TOKEN_FILE" placeholder:"FILE"`
	HandlerCA      string `name:"handler-ca" help:"PEM bundle trusted for hcvault in addition to the system's." env:"TABARD_HANDLER_CA" placeholder:"FILE"`
	Identity       string `help:"File of age identities that open the backup." placeholder:"FILE" xor:"open"`
	PassphraseFile string `help:"File with the passphrase that opens the backup." placeholder:"FILE" xor:"open"`
}

func (backupRestoreCmd) Help() string {
	return `Makes a data directory of a backup; no service may run on it. It appears whole or, with a wrong key or a damaged file, not at all. Start the service with the same --data and --master-key-file as here.

A key that was revoked after the backup was made is back: revoke it again with --revoked-signing-key.

Example:

    tabard backup restore tabard.backup --data /var/lib/tabard --master-key-file /etc/tabard/master.key
    tabard backup restore tabard.backup --data /var/lib/tabard --passphrase-file passphrase.txt` + backupWords
}

func (c *backupRestoreCmd) Run(ctx context.Context, s *stdio) error {
	passphrase, err := readPassphrase(s, c.PassphraseFile)
	if err != nil {
		return err
	}
	var in io.Reader = s.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	info, err := tabard.Restore(ctx, in, tabard.RestoreOptions{
		Data: c.Data, IdentityFile: c.Identity, Passphrase: passphrase,
		MasterKey: tabard.MasterKeySource{
			Value: os.Getenv("TABARD_MASTER_KEY"), File: c.MasterKeyFile, URI: c.MasterKeyURI, TokenFile: c.MasterKeyToken, Token: os.Getenv("VAULT_TOKEN"), CA: c.HandlerCA,
		},
	})
	switch {
	case errors.Is(err, tabard.ErrWrongBackupKey):
		return fail(exitRefused, "--master-key-file, --identity and --passphrase-file name what opens it; nothing was changed", "%s: %v", c.File, err)
	case errors.Is(err, tabard.ErrDamagedBackup):
		return fail(exitRefused, "nothing was changed", "%s: %v", c.File, err)
	case err != nil:
		return err
	}
	return s.print(c.JSON, info, func(w io.Writer) {
		row(w, fmt.Sprintf("%s holds %d documents and records of %s.", c.Data, info.Items, info.Created.Format("2006-01-02 15:04:05 MST")))
		start := "tabard serve --data " + c.Data
		if c.MasterKeyFile != "" {
			start += " --master-key-file " + c.MasterKeyFile
		}
		if c.MasterKeyURI != "" {
			start += " --master-key-uri " + c.MasterKeyURI
		}
		row(w, "Start the service with: "+start)
		if c.MasterKeyFile == "" && c.MasterKeyURI == "" && os.Getenv("TABARD_MASTER_KEY") == "" {
			row(w, "Its new master key is "+filepath.Join(c.Data, "master.key")+".")
		}
	})
}

// readPassphrase reads a passphrase's file, without the end of its line; none if no file is named.
func readPassphrase(s *stdio, file string) (string, error) {
	const limit = 1 << 10
	in := s.in
	switch file {
	case "":
		return "", nil
	case "-":
	default:
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return "", err
	}
	passphrase := strings.TrimRight(string(text), "\r\n")
	if len(text) > limit || passphrase == "" || strings.ContainsAny(passphrase, "\r\n") {
		return "", fail(exitUsage, "", "%s is not one line with a passphrase of at most %d bytes", file, limit)
	}
	return passphrase, nil
}
