package main

import (
	"context"

	"github.com/alecthomas/kong"
)

// cli is the grammar. The order is that of the help.
type cli struct {
	Demo  demoCmd  `cmd:"" group:"run" help:"Show the whole identity loop in one process, step by step."`
	Dev   devCmd   `cmd:"" group:"run" set:"log_format=text" help:"Run the service for development on this machine."`
	Serve serveCmd `cmd:"" group:"run" set:"log_format=json" help:"Run the service for production."`
	Guard guardCmd `cmd:"" group:"run" set:"log_format=text" help:"Run a reverse proxy that verifies tokens in front of any application."`

	Config struct {
		Check configCheckCmd `cmd:"" set:"log_format=json" help:"Say everything that is wrong with a configuration."`
		Print configPrintCmd `cmd:"" set:"log_format=json" help:"Print the effective configuration, secrets redacted."`
	} `cmd:"" group:"run" help:"Look at the configuration of serve and dev."`

	Connect connectCmd `cmd:"" group:"talk" help:"Be a client: send lines from stdin, print what arrives."`
	Send    sendCmd    `cmd:"" group:"talk" help:"Be a server: publish a message over REST."`
	Floor   floorCmd   `cmd:"" hidden:""`
	Trigger triggerCmd `cmd:"" group:"talk" help:"Deliver an event that no client sent."`
	Listen  listenCmd  `cmd:"" group:"talk" help:"Print a hub's events as they arrive, and forward them to a local URL."`
	Bench   benchCmd   `cmd:"" group:"talk" help:"Load an endpoint and say what it cost."`

	Conformance conformanceCmd `cmd:"" group:"talk" help:"Examine an endpoint, line by line, against the published protocols."`

	Apply  applyCmd  `cmd:"" group:"control" help:"Make the service what files of resources say."`
	Export exportCmd `cmd:"" group:"control" help:"Write what the service has as a file of resources."`

	Instance struct {
		List   instanceListCmd   `cmd:"" help:"List the instances."`
		Show   instanceShowCmd   `cmd:"" help:"Show one instance."`
		Create instanceCreateCmd `cmd:"" help:"Create an instance with fresh keys."`
		Delete instanceDeleteCmd `cmd:"" help:"Delete an instance and end its connections."`
	} `cmd:"" group:"control" help:"Instances: Web PubSub resources."`

	Hub struct {
		List   hubListCmd   `cmd:"" help:"List the hubs that have settings."`
		Show   hubShowCmd   `cmd:"" help:"Show a hub's settings."`
		Set    hubSetCmd    `cmd:"" help:"Write a hub's settings: event handlers, authentication, anonymous clients."`
		Delete hubDeleteCmd `cmd:"" help:"Delete a hub's settings; the hub then has the defaults."`
	} `cmd:"" group:"control" help:"Hub settings and event handlers."`

	Key struct {
		List       keyListCmd       `cmd:"" help:"Print the access keys and connection strings."`
		Regenerate keyRegenerateCmd `cmd:"" help:"Replace one access key; the other stays valid."`
	} `cmd:"" group:"control" help:"Access keys of an instance."`

	Identity struct {
		Assign identityAssignCmd `cmd:"" help:"Give an instance its one managed identity."`
		Remove identityRemoveCmd `cmd:"" help:"Take an instance's managed identity away."`
		Show   identityShowCmd   `cmd:"" help:"Show an instance's managed identity."`
		Create identityCreateCmd `cmd:"" help:"Create a user-assigned identity as a resource."`
		List   identityListCmd   `cmd:"" help:"List the user-assigned identities."`
		Delete identityDeleteCmd `cmd:"" help:"Delete a user-assigned identity."`
		Env    identityEnvCmd    `cmd:"" help:"Print the variables with which a program gets tokens of a user-assigned identity."`

		Federated struct {
			Create identityFederatedCreateCmd `cmd:"" help:"Trust another issuer's tokens about a subject."`
			List   identityFederatedListCmd   `cmd:"" help:"List whose tokens are trusted."`
			Delete identityFederatedDeleteCmd `cmd:"" help:"Trust them no more."`
		} `cmd:"" help:"Federated credentials of a user-assigned identity."`
	} `cmd:"" group:"control" help:"Managed identities."`

	App struct {
		Create appCreateCmd `cmd:"" help:"Register an application: something that tokens can be issued for."`
		List   appListCmd   `cmd:"" help:"List the applications."`
		Show   appShowCmd   `cmd:"" help:"Show one application."`
		Delete appDeleteCmd `cmd:"" help:"Delete an application."`

		Secret struct {
			Create appSecretCreateCmd `cmd:"" help:"Make a client secret and print it, this once."`
			List   appSecretListCmd   `cmd:"" help:"List the client secrets, without the secrets."`
			Delete appSecretDeleteCmd `cmd:"" help:"End a client secret."`
		} `cmd:"" help:"Client secrets of an application."`
		Certificate struct {
			Add    appCertificateAddCmd    `cmd:"" help:"Let the holder of a certificate's key speak for the application."`
			List   appCertificateListCmd   `cmd:"" help:"List the certificates."`
			Delete appCertificateDeleteCmd `cmd:"" help:"End a certificate."`
		} `cmd:"" help:"Certificates of an application."`
		Federated struct {
			Create appFederatedCreateCmd `cmd:"" help:"Trust another issuer's tokens about a subject."`
			List   appFederatedListCmd   `cmd:"" help:"List whose tokens are trusted."`
			Delete appFederatedDeleteCmd `cmd:"" help:"Trust them no more."`
		} `cmd:"" help:"Federated credentials of an application."`
		Role struct {
			Create   appRoleCreateCmd   `cmd:"" help:"Define a role of an application."`
			List     appRoleListCmd     `cmd:"" help:"List an application's roles and who has them."`
			Assign   appRoleAssignCmd   `cmd:"" help:"Give an identity a role of an application."`
			Unassign appRoleUnassignCmd `cmd:"" help:"Take a role of an application back."`
		} `cmd:"" help:"App roles: what an application's callers may be."`
	} `cmd:"" group:"control" help:"Applications of the directory."`

	Role struct {
		Assign roleAssignCmd `cmd:"" help:"Let an identity do something: give it a role at an instance or above."`
		List   roleListCmd   `cmd:"" help:"List who has which role where."`
		Remove roleRemoveCmd `cmd:"" help:"Take a role back."`
	} `cmd:"" group:"control" help:"Role assignments: who may do what."`

	Vault struct {
		List    vaultListCmd    `cmd:"" help:"List the key vaults."`
		Show    vaultShowCmd    `cmd:"" help:"Show one key vault."`
		Create  vaultCreateCmd  `cmd:"" help:"Create a key vault."`
		Delete  vaultDeleteCmd  `cmd:"" help:"Delete a key vault; it can be recovered."`
		Recover vaultRecoverCmd `cmd:"" help:"Bring a deleted key vault back."`
		Purge   vaultPurgeCmd   `cmd:"" help:"End a deleted key vault for good."`
		Policy  struct {
			List   vaultPolicyListCmd   `cmd:"" help:"List who may do what in a vault."`
			Set    vaultPolicySetCmd    `cmd:"" help:"Say what a principal may do with a vault's secrets."`
			Remove vaultPolicyRemoveCmd `cmd:"" help:"Take everything back that a principal may do in a vault."`
		} `cmd:"" help:"Access policies of a key vault."`
		Explain vaultExplainCmd `cmd:"" help:"Say step by step whether an instance can read a secret, and what to change."`
	} `cmd:"" group:"control" help:"Key vaults and who may read them."`

	Secret struct {
		Set     secretSetCmd     `cmd:"" help:"Store a value as the newest version of a secret."`
		Show    secretShowCmd    `cmd:"" help:"Show a secret, its value only with --reveal."`
		List    secretListCmd    `cmd:"" help:"List the secrets of a vault, or the versions of one."`
		Delete  secretDeleteCmd  `cmd:"" help:"Delete a secret with all its versions; it can be recovered."`
		Recover secretRecoverCmd `cmd:"" help:"Bring a deleted secret back."`
		Purge   secretPurgeCmd   `cmd:"" help:"End a deleted secret for good."`
	} `cmd:"" group:"control" help:"Secrets in a key vault."`

	SigningKey struct {
		List   signingKeyListCmd   `cmd:"" help:"List the token service's signing keys."`
		Rotate signingKeyRotateCmd `cmd:"" help:"Sign with the next key from now on."`
		Revoke signingKeyRevokeCmd `cmd:"" help:"Take a signing key out of the key set, for an emergency."`
	} `cmd:"" group:"control" help:"Signing keys of the token service."`

	Trace struct {
		Tail   traceTailCmd   `cmd:"" help:"Follow what happens, each failure with its reason."`
		Show   traceShowCmd   `cmd:"" help:"Show one record, or the event that it is about."`
		Replay traceReplayCmd `cmd:"" help:"Send a recorded event again and compare the answers."`
	} `cmd:"" group:"why" help:"What happened and why."`

	Token struct {
		Decode tokenDecodeCmd `cmd:"" help:"Show what is inside a token, verifying nothing."`
		Verify tokenVerifyCmd `cmd:"" help:"Say whether an event handler would accept a token, and why not."`
	} `cmd:"" group:"why" help:"Access tokens."`

	Audit struct {
		List auditListCmd `cmd:"" help:"List who changed what, and what was refused."`
	} `cmd:"" group:"why" help:"Who changed what."`

	Doctor doctorCmd `cmd:"" group:"why" help:"Attack an event handler of yours and say what it accepted."`

	Admin struct {
		Token struct {
			Show   adminTokenShowCmd   `cmd:"" help:"Print the admin token."`
			Rotate adminTokenRotateCmd `cmd:"" help:"Replace the admin token; the old one stops working at once."`
		} `cmd:"" help:"The admin token."`
	} `cmd:"" group:"this" help:"Administration of the service."`

	Backup struct {
		Create  backupCreateCmd  `cmd:"" help:"Write everything that the running service remembers into one sealed file."`
		Restore backupRestoreCmd `cmd:"" help:"Make a data directory of a backup."`
	} `cmd:"" group:"this" help:"Backup and restore."`

	CA struct {
		Path  caPathCmd  `cmd:"" help:"Print the path of the local CA's certificate."`
		Trust caTrustCmd `cmd:"" help:"Print, per language, the line that makes programs trust the local CA."`
	} `cmd:"" name:"ca" group:"this" help:"The local certificate authority."`

	Version versionCmd `cmd:"" group:"this" help:"Print the version."`
}

const description = `Tabard speaks the wire protocols of Azure Web PubSub and proves who it is to every event handler it calls.

Start here:

    tabard demo --once       see the whole loop, with attacks, in five seconds
    tabard dev               run the service on this machine
    tabard connect --hub chat --user me

Commands that act on a running service find it through ./.tabard/ready.json (--data, TABARD_DATA), or by --admin-url and --admin-token (TABARD_ADMIN_URL, TABARD_ADMIN_TOKEN). Results go to stdout, everything else to stderr; --json prints exactly one object.

Exit codes: 0 done, 1 failure, 2 usage or configuration, 3 not found, 4 refused, 5 no service answers.`

var groups = []kong.Group{
	{Key: "run", Title: "Run the service:"},
	{Key: "talk", Title: "Talk through it:"},
	{Key: "control", Title: "Set it up:"},
	{Key: "why", Title: "Ask why:"},
	{Key: "this", Title: "This installation:"},
	{Key: "service", Title: "Which service:"},
	{Key: "tokens", Title: "Real tokens:"},
	{Key: "log", Title: "Log (stderr):"},
}

// newParser builds the parser. exited is told the code when kong itself wants to end, after printing help.
func newParser(s *stdio, exited func(code int)) (*kong.Kong, error) {
	parser, err := kong.New(&cli{},
		kong.Name("tabard"),
		kong.Description(description),
		kong.Writers(s.out, s.err),
		kong.Exit(exited),
		kong.ExplicitGroups(groups),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
	)
	if err != nil || !s.bare {
		return parser, err
	}
	return parser, kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok {
			f.Envs, f.Tag.Envs = nil, nil
		}
		return next(nil)
	})
}

// run is main without the process: it parses args, runs the command they name, and returns the exit code.
func run(ctx context.Context, args []string, s *stdio) int {
	done := false
	parser, err := newParser(s, func(int) { done = true })
	if err != nil {
		return report(s.err, err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if done { // help was asked for and printed; kong parses on, but there is nothing more to say
		return exitOK
	}
	if err != nil {
		return report(s.err, err)
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return report(s.err, command.Run(s, command))
}
