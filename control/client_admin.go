package control

import "context"

// The changes an admin makes, one method each, as the routes name them.

func (c *Client) Grant(ctx context.Context, r *GrantRequest) (*GrantResult, error) {
	return post[GrantResult](ctx, c, pathGrant, r)
}

func (c *Client) Ungrant(ctx context.Context, r *UngrantRequest) (*UngrantResult, error) {
	return post[UngrantResult](ctx, c, pathUngrant, r)
}

func (c *Client) PolicyFile(ctx context.Context, r *PolicyRequest) (*PolicyResult, error) {
	return post[PolicyResult](ctx, c, pathPolicy, r)
}

func (c *Client) Revoke(ctx context.Context, r *RevokeRequest) (*RevokeResult, error) {
	return post[RevokeResult](ctx, c, pathRevoke, r)
}

func (c *Client) RotateGroup(ctx context.Context, r *RotateGroupRequest) (*RotateGroupResult, error) {
	return post[RotateGroupResult](ctx, c, pathRotateGroup, r)
}

func (c *Client) RotateNode(ctx context.Context, r *RotateNodeRequest) (*RotateNodeResult, error) {
	return post[RotateNodeResult](ctx, c, pathRotateNode, r)
}

func (c *Client) Leave(ctx context.Context, r *LeaveRequest) (*LeaveResult, error) {
	return post[LeaveResult](ctx, c, pathLeave, r)
}

func (c *Client) CreateInvite(ctx context.Context, r *InviteRequest) (*InviteResult, error) {
	return post[InviteResult](ctx, c, pathInvite, r)
}

func (c *Client) RemoveInvite(ctx context.Context, id string) error {
	_, err := post[Empty](ctx, c, pathInviteRemove, &InviteRemoveRequest{ID: id})
	return err
}

func (c *Client) Doctor(ctx context.Context) (*Doctor, error) {
	return get[Doctor](ctx, c, pathDoctor, nil)
}

func (c *Client) ResetTimeFloor(ctx context.Context, r *ResetTimeFloorRequest) (*ResetTimeFloorResult, error) {
	return post[ResetTimeFloorResult](ctx, c, pathResetFloor, r)
}

func (c *Client) Repin(ctx context.Context, r *RepinRequest) (*RepinResult, error) {
	return post[RepinResult](ctx, c, pathRepin, r)
}
