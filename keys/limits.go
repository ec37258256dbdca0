package keys

const (
	// keyFileVersion is the only version of the plaintext inside a key file.
	keyFileVersion = 1
	// maxKeyBody bounds the plaintext of a key file: the largest has 91 bytes.
	maxKeyBody = 256
	// maxKeyFile bounds a sealed key file or an identity file: a key sealed to maxRecipients post-quantum recipients, whose
	// stanzas have 1.6 kB each.
	maxKeyFile = 32 << 10
	// maxRecipients is how many recipients may open one key file: more holders of one key than this are no secret.
	maxRecipients = 16
	// maxRecipientText is the longest recipient: a post-quantum one has 1959 characters.
	maxRecipientText = 2048
	// maxPlugins is how many age plugins a host may name, and maxPluginName how long a name may be.
	maxPlugins    = 16
	maxPluginName = 32
	// maxPluginText bounds what is shown of a plugin's words.
	maxPluginText = 200
	// maxStanzas bounds what is told of a sealed file: its recipients, and what an age tool adds as grease.
	maxStanzas = maxRecipients + 4
	// maxPublicLine is the longest line of a public key: word, mesh id, name and key.
	maxPublicLine = 256
	// scryptWork is log2 of the work to seal to a passphrase: 1 s and 256 MiB on the machines we measured, age's default.
	scryptWork = 18
	// maxScryptWork is the most work a file may ask of us: four times ours, so that a planted file cannot ask for 4 GiB.
	maxScryptWork = 20
	// minPassphrase is the least length of a new passphrase, in characters: three or four words. Whoever steals the file has all the time
	// there is, and a thousand machines try a billion guesses in two weeks.
	minPassphrase = 12
	// minPassphraseKinds is how many different characters it has at least, so that it is no key held down.
	minPassphraseKinds = 6
	// maxNodeText bounds what ParseNodeID looks at: the longest form with generous spacing.
	maxNodeText = 256
)
