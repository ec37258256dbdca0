// Package policy turns a policy file into the grants it asks for, and says what that changes before it is done.
//
// # What a policy owns
//
// A policy is a set of grants under a name. A grant it made says so in its note, which is signed with it and seen by whoever lists grants:
//
//	policy:NAME            or            policy:NAME the reason given in the file
//
// Whoever applies a policy of that name, on whichever issuer, makes what the file has and the mesh lacks, and takes back what the mesh has
// of this policy and the file lacks. Grants made by hand, and those of policies of other names, stay. A grant is the same if who, what, window
// and note are; a machine is the same whichever of its rotated keys was named. So a second apply of one file changes nothing.
//
// # What is asked before
//
// The grants and ungrants of an apply are put into a supposed State ([trust.State.Suppose]), and everything is asked of that: tests, what is gained
// and lost, which streams would close. [trust.State.Decide] answers, as it will answer when the change is made.
//
// # Locked out
//
// A way in to a machine is a service there that another live member may open now. The rights of issuers are the root's, and no policy
// touches them: whoever sits at an issuer can always mend a policy. Two changes are refused without force, for they leave only that:
//
//   - one after which no machine with an issuer that grants has a way in, though one of them has now;
//   - one after which no machine at all has a way in, though one has now.
//
// # Not provided
//
// It does not know what is offered, nor the streams between other machines. A way in is no proof that somebody answers there.
package policy
